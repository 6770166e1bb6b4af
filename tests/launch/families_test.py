"""Every family of models from its checkpoint to a perplexity, with equal bits on one rank and two."""
import json
import math
import random
import shutil

import program

FAMILIES = program.DATA / "families"
VOCABULARY = 96
LEARNED = ("--recipe", "lrquant", "--wbits", "4", "--abits", "6", "--epochs", "2", "--wave", "2")
ROUNDED = ("--recipe", "rtn", "--wbits", "4")


class FamiliesTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        draw = random.Random(5)
        program.write_npy(self.calib, [[draw.randrange(3, VOCABULARY) for _ in range(32)]
                                       for _ in range(4)])

    def calibrate_family(self, model, run_name, *more):
        return ["calibrate", "--model", model, "--calib", self.calib, "--run",
                self.folder / run_name, "--nsamples", 4, "--seqlen", 32, "--log-level", "warning",
                *more]

    def perplexity(self, *of):
        result = self.folder / "result.json"
        self.succeed(["eval", *of, "--ppl", self.calib, "--seqlen", 32, "--json", result])
        return json.loads(result.read_text())["ppl"]["calib"]

    def assert_works(self, name, inspected):
        model = FAMILIES / name
        told = self.succeed(["inspect", "--model", model]).stdout
        for line in inspected:
            self.assertIn(line + "\n", told)
        original = self.perplexity("--model", model)
        for kind, options in (("learned", LEARNED), ("rounded", ROUNDED)):
            self.succeed(self.calibrate_family(model, kind, *options))
            expected = program.blocks(self.folder / kind)
            self.assertEqual(len(expected), 2)
            self.succeed(self.calibrate_family(model, kind + "-on-2", *options), 2)
            self.assert_same_blocks(expected, kind + "-on-2", f"{name}, {options}")
            quantized = self.perplexity("--run", self.folder / kind)
            self.assertNotEqual(quantized, original)
            # A random model's perplexity moves by what quantizing moves, not by orders.
            self.assertLess(abs(math.log(quantized / original)), 1.5, f"{name}, {kind}")
        # Weights alone are quantized in this run, so an exported folder holds all of it.
        exported = self.folder / "exported"
        self.succeed(["export", "--run", self.folder / "rounded", "--format", "hf", "--out",
                      exported])
        self.assertAlmostEqual(self.perplexity("--model", exported) / quantized, 1.0, places=4)

    def test_clusters(self):
        for name in ("llama3", "mistral", "qwen2", "qwen3", "opt", "opt-post-norm"):
            model = FAMILIES / name
            original = self.perplexity("--model", model)
            found = {}
            for run, bits in ((name + "-16", 16), (name + "-8", 8), (name + "-4", 4)):
                self.succeed(self.calibrate_family(
                    model, run, "--recipe", "rptq", "--wbits", bits, "--abits", bits,
                    "--set", "clusters.min_cluster=2"))
                found[bits] = self.perplexity("--run", self.folder / run)
            # Re-ordered alone, a model is what it was.
            self.assertAlmostEqual(found[16] / original, 1.0, delta=1e-4, msg=name)
            # A random model is a bad guesser, of a loss near 14.5: 0.1 of it is little.
            self.assertLess(abs(math.log(found[8] / original)), 0.1, name)
            self.assertLess(abs(math.log(found[4] / original)), 1.5, name)
            # Rows and columns of an exported folder are in their own order again.
            exported = self.folder / (name + "-exported")
            weights = self.folder / (name + "-weights")
            self.succeed(self.calibrate_family(model, weights.name, "--recipe", "rptq-w4a16"))
            self.succeed(["export", "--run", weights, "--format", "hf", "--out", exported])
            self.assertAlmostEqual(self.perplexity("--model", exported) /
                                   self.perplexity("--run", weights), 1.0, places=4, msg=name)

    def test_llama3(self):
        self.assert_works("llama3", ["family: llama", "heads: 4 of 8, key/value heads 2"])

    def test_mistral(self):
        self.assert_works("mistral", ["family: mistral", "heads: 4 of 16, key/value heads 2",
                                      "attention: each token sees 7 positions"])

    def test_qwen2(self):
        self.assert_works("qwen2", ["family: qwen2", "head: the embedding"])

    def test_qwen3(self):
        self.assert_works("qwen3", ["family: qwen3", "heads: 4 of 12, key/value heads 2"])

    def test_opt(self):
        self.assert_works("opt", [
            "family: opt", "smoothing fc1: final_layer_norm -> fc1",
            "smoothing out: self_attn.v_proj -> self_attn.out_proj"])

    def test_opt_with_norms_behind_has_no_pair_of_a_norm(self):
        self.assert_works("opt-post-norm", ["family: opt"])
        told = self.succeed(["inspect", "--model", FAMILIES / "opt-post-norm"]).stdout
        self.assertNotIn("_layer_norm ->", told)

    def test_ranges_of_queries_keys_and_values_follow_the_recipe(self):
        made = set()
        for name in ("family", "per_token", "per_head"):
            self.succeed(self.calibrate_family(
                FAMILIES / "opt", name, *LEARNED, "--set", f"activations.qkv_granularity={name}"))
            # Behind the header, which names the recipe, and what pads it.
            made.add(tuple(content.split(b"}}", 1)[1].lstrip(b" ") for content in
                           program.blocks(self.folder / name).values()))
        self.assertEqual(len(made), 2, "OPT's own is per_token")

    def test_samples_longer_than_the_positions_are_refused(self):
        end = program.run(["calibrate", "--model", FAMILIES / "opt", "--calib", self.calib, "--run",
                           self.folder / "run", *ROUNDED, "--nsamples", 4, "--seqlen", 65])
        self.assert_refused(end, 2, "samples of 65 tokens, and the model takes at most 64")

    def test_a_config_that_changes_the_maths_is_refused_by_name(self):
        for name, field, value, text in (
                ("opt", "activation_function", "gelu", 'activation_function is "gelu"'),
                ("qwen3", "layer_types", ["full_attention", "sliding_attention"],
                 "layer_types names 1 of 2 layers"),
                ("llama3", "rope_parameters", {"rope_type": "yarn", "factor": 4.0}, '"yarn"')):
            folder = self.folder / f"changed-{name}"
            shutil.copytree(FAMILIES / name, folder)
            config = json.loads((folder / "config.json").read_text())
            config.update({field: value})
            if name == "qwen3":
                config.update(use_sliding_window=True, sliding_window=8)
            (folder / "config.json").write_text(json.dumps(config))
            self.assert_refused(program.run(["inspect", "--model", folder]), 3, text, "config.json")


if __name__ == "__main__":
    program.main()

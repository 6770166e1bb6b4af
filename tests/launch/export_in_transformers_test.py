"""What transformers makes of exported folders, SmolLM2-135M: needs launch/setup --all.

The runs are short: a few samples and one epoch, enough that every learnable has moved.
"""
import json
import os
import pathlib
import subprocess
import sys

import program

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lrq-dist"
SMOLLM2 = CACHE / "models" / "smollm2-135m"
PYTHON = CACHE / "transformers-python"  # names the Python that launch/setup --all made
TEXTS = program.DATA / "wikitext-2"
WINDOW, COUNT = 256, 4
WITHIN_S = 900


class ExportInTransformersTest(program.ProgramTest):
    def succeed(self, arguments, ranks=0):
        end = program.run(arguments, ranks, within=WITHIN_S)
        self.assertEqual(end.code, 0, end.output)
        return end

    def exported(self, name, *recipe):
        run, out = self.folder / name, self.folder / f"{name}-hf"
        self.succeed(["calibrate", "--model", SMOLLM2, "--calib", TEXTS / "valid.joined.txt",
                      "--run", run, "--nsamples", 4, "--seqlen", 128, "--epochs", 1,
                      "--log-level", "warning", *recipe])
        self.succeed(["export", "--run", run, "--format", "hf", "--out", out, "--dtype", "float32",
                      "--max-shard-size", "300MB"])
        return run, out

    def ours(self, *subject):
        path = self.folder / "result.json"
        self.succeed(["eval", *subject, "--ppl", TEXTS / "test.joined.txt", "--seqlen", WINDOW,
                      "--limit", COUNT, "--json", path])
        return json.loads(path.read_text(encoding="utf-8"))["ppl"]["test.joined"]

    def theirs(self, folder):
        script = pathlib.Path(__file__).with_name("transformers_perplexity.py")
        done = subprocess.run([PYTHON.read_text(encoding="utf-8").strip(), "-B", script, folder,
                               TEXTS / "test.joined.txt", str(WINDOW), str(COUNT)],
                              capture_output=True, text=True, timeout=WITHIN_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads(done.stdout)
        self.assertEqual((told["class"], told["missing"], told["unexpected"]),
                         ("LlamaForCausalLM", [], []))
        return told["perplexity"]

    def compare(self, name, subject, folder):
        ours, theirs = self.ours(*subject), self.theirs(folder)
        print(f"{name}: lrq-dist eval {ours:.6f}, transformers {theirs:.6f}, "
              f"ratio - 1 = {theirs / ours - 1:.1e}", flush=True)
        self.assertAlmostEqual(theirs / ours, 1.0, delta=1e-3)
        return ours

    def test_weight_only_with_learned_shifts(self):
        run, out = self.exported("w4a16-g64", "--recipe", "lrquant", "--wbits", "4", "--group-size",
                                 "64")
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        self.assertEqual((config["attention_bias"], config["mlp_bias"]), (True, True))
        ours = self.compare("W4A16 g64, the run", ("--run", run), out)
        self.assertAlmostEqual(self.ours("--model", out) / ours, 1.0, delta=1e-4)

    def test_w6a6_with_its_activation_bits_left_out(self):
        run, out = self.exported("w6a6", "--recipe", "lrquant-export", "--wbits", "6", "--abits",
                                 "6")
        weights = self.compare("W6A6, its weights alone", ("--model", out), out)
        self.assertGreater(self.ours("--run", run), weights)


if __name__ == "__main__":
    for needed, maker in ((PYTHON, "launch/setup --all"), (SMOLLM2, "launch/setup")):
        if not needed.exists():
            print(f"skipped: {maker} was not run ({needed} is not there)")
            sys.exit(77)
    program.main()

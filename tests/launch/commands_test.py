"""The commands around a calibration, each with the real program."""
import json
import os
import time

import program

LEARNED = ("--wbits", "4", "--abits", "8", "--epochs", "1")


class RecipeTest(program.ProgramTest):
    def test_every_recipe_that_is_listed_is_shown(self):
        listed = self.succeed(["recipe", "list"]).stdout.splitlines()
        names = [line.split()[0] for line in listed]
        self.assertTrue({"rtn", "smoothquant", "omniquant", "lrquant"} <= set(names), names)
        for line in listed:
            self.assertGreater(len(line.split()), 3, line)
            shown = self.succeed(["recipe", "show", line.split()[0], "--wbits", "4"]).stdout
            self.assertIn("[weights]\nbits = 4\n", shown)

    def test_what_is_shown_can_be_read_again(self):
        for name in ("lrquant", "omniquant", "rtn"):
            options = ("--wbits", "3", "--group-size", "32", "--let-lr", "0.002",
                       "--set", "loss.nlc_p=0.5")
            shown = self.succeed(["recipe", "show", name, *options]).stdout
            for text in ("bits = 3", 'per = "group"', "group_size = 32", "let_lr = 0.002",
                         "nlc_p = 0.5"):
                self.assertIn(text, shown)
            (self.folder / f"{name}.toml").write_text(shown, encoding="utf-8")
            again = self.succeed(["recipe", "show", self.folder / f"{name}.toml"]).stdout
            self.assertEqual(again, shown)

    def test_a_shown_recipe_calibrates_to_the_same_blocks(self):
        shown = self.succeed(["recipe", "show", "lrquant", *LEARNED]).stdout
        (self.folder / "lrquant.toml").write_text(shown, encoding="utf-8")
        self.succeed(self.calibrate("by-name", *LEARNED))
        self.succeed(self.calibrate("by-file", "--recipe", self.folder / "lrquant.toml"))
        self.assert_same_blocks(program.blocks(self.folder / "by-name"), "by-file")


class SpellingTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.succeed(self.calibrate("plain", *LEARNED, "--let-lr", "0.002", "--group-size", "4"))
        self.expected = program.blocks(self.folder / "plain")

    def test_the_published_spellings_are_accepted(self):
        self.succeed(self.calibrate("run", *LEARNED, "--let_lr", "0.002", "--group_size=4",
                                    "--batch_size", "1", "--kv_bits", "0"))
        self.assert_same_blocks(self.expected, "run")

    def test_published_switches_mean_the_recipe_fields_of_the_same_thing(self):
        pairs = (
            (("--lr_plus",), ("--recipe", "lrquant-plus")),
            (("--aug_loss",), ("--set", "loss.mse_r=1.0")),
            (("--rotate_rank", "2"), ("--set", "rotation_vectors.form=outer",
                                      "--set", "rotation_vectors.rank=2")),
            (("--recipe", "lrquant-wo", "--let", "--lwc"),
             ("--recipe", "lrquant-wo", "--set", "smoothing.scale=learned")),
            (("--no-let",), ("--recipe", "lrquant-wo")),
            (("--no-lwc", "--deactive_amp"), ("--set", "weights.clip=none")),
            (("--symmetric", "--disable_zero_point", "--w_dynamic_method", "per_channel"),
             ("--set", "weights.symmetric=true", "--set", "weights.zero_point=false")),
            (("--recipe", "ruquant", "--lh", "--lh_lr", "0.02", "--swc", "0.7", "--lac", "0.8",
              "--block_size", "4", "--max_rotation_step", "2", "--permutation_times", "0",
              "--random_permutation_times", "1"),
             ("--recipe", "ruquant", "--set", "rotation.householder=learned",
              "--set", "rotation.lr=0.02", "--set", "weights.clip=0.7",
              "--set", "activations.clip=0.8", "--set", "rotation.block_size=4",
              "--set", "rotation.steps=2", "--set", "rotation.permutations=0",
              "--set", "rotation.random_permutations=1")),
        )
        for number, (published, ours) in enumerate(pairs):
            with self.subTest(published):
                self.succeed(self.calibrate(f"ours-{number}", *LEARNED, *ours))
                self.succeed(self.calibrate(f"theirs-{number}", *LEARNED, *published))
                self.assert_same_blocks(program.blocks(self.folder / f"ours-{number}"),
                                        f"theirs-{number}")

    def test_the_published_options_of_rptq_are_fields_of_its_recipe(self):
        rptq = ("--recipe", "rptq", "--wbits", "4", "--abits", "4")
        self.succeed(self.calibrate("ours", "--recipe", "rptq", "--wbits", "4", "--kv-bits", "4",
                                    "--set", "clusters.norms=8", "--set", "clusters.heads=2",
                                    "--set", "clusters.mlp=6", "--set", "clusters.sites=1345",
                                    "--set", "clusters.range=ema",
                                    "--set", "weights.rounding=nearest"))
        self.succeed(self.calibrate("theirs", *rptq, "--only_quant_kv", "--R1_clusters", "8",
                                    "--R2_clusters=2", "--R3_clusters=2", "--R4_clusters", "8",
                                    "--R5_clusters", "6", "--reorder", "1345",
                                    "--metric", "ema_minmax", "--w_quantizer", "normal",
                                    "--percdamp", "0.01"))
        self.assert_same_blocks(program.blocks(self.folder / "ours"), "theirs")
        for flags, told in (
                (("--R1_clusters", "8", "--R4_clusters", "16"), "clusters.norms is 8 already"),
                (("--metric", "layer_mse"), "expected one of minmax, ema_minmax"),
                (("--pack_weight",), "lrq-dist export"),
                (("--w_quantizer", "normal", "--wave", "2"), "train.wave is 2, expected 1"),
                (("--a_dynamic", "--lwc"), 'weights.clip is "learned", expected "none"')):
            end = program.run(self.calibrate("refused", *rptq, *flags))
            self.assert_refused(end, 2, told)

    def test_published_options_that_are_not_ours_are_refused_with_what_is(self):
        for flags, instead in (
                (("--eval_ppl",), "lrq-dist eval --run RUN --ppl FILE"),
                (("--tasks", "piqa,arc_easy"), "lrq-dist eval --run RUN --tasks FILE"),
                (("--tta",), "lrq-dist eval --run RUN --ppl FILE --tta"),
                (("--calib_dataset", "wikitext2"), "--calib FILE"),
                (("--save_dir", "out"), "lrq-dist export --run RUN --format hf --out DIR"),
                (("--act-scales", "a.pt"), "RUN/stats"),
                (("--multigpu",), "mpirun -n N"),
                (("--net", "Llama-2-7b"), "config.json")):
            end = program.run(["calibrate", "--model", "m", *flags], 2)
            with self.subTest(flags):
                self.assertEqual(end.code, 2, end.output)
                self.assertIn("fix:", end.output)
                self.assertIn(instead, end.output)
                self.assertEqual(end.output.count("where:"), 1, "told by one rank")
        end = program.run(["calibrate", "--model", "m", "--a_dynamic_method", "per_tensor"])
        self.assertEqual(end.code, 2, end.output)
        self.assertIn("per_token", end.output)

    def test_a_config_file_holds_any_option_and_the_command_line_wins(self):
        config = self.folder / "all.toml"
        config.write_text(f"""log-level = "warning"
json = "{self.folder}/config.json"
[calibrate]
model = "{program.MODEL}"
calib = ["{self.calib}"]
run = "{self.folder}/in-the-file"
nsamples = 4
seqlen = 32
wbits = 3
abits = 8
epochs = 1
let-lr = 0.002
group-size = 4
""", encoding="utf-8")
        self.succeed(["calibrate", "--config", config, "--wbits", "4"])
        self.assert_same_blocks(self.expected, "in-the-file")
        self.assertTrue((self.folder / "config.json").exists())


class TokensTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.text = self.folder / "text.txt"
        with open(program.TEXT, encoding="utf-8") as lines:
            self.text.write_text("\n\n".join(json.loads(line)["text"] for line in lines),
                                 encoding="utf-8")

    def calibrate_from(self, path, run_name, *more, ranks=0):
        arguments = self.calibrate(run_name, "--recipe", "smoothquant", "--wbits", "4", *more)
        arguments[arguments.index("--calib") + 1] = path
        self.succeed(arguments, ranks)
        return program.blocks(self.folder / run_name)

    def test_tokenized_files_calibrate_to_the_blocks_of_their_text(self):
        expected = self.calibrate_from(self.text, "text")
        for kind in ("npy", "h5"):
            path = self.folder / f"tokens.{kind}"
            told = self.succeed(["tokenize", "--model", program.MODEL, "--text", self.text,
                                 "--out", path])
            self.assertRegex(told.stdout, r"tokens\.\w+: \d{4} tokens\n")
            self.assertEqual(self.calibrate_from(path, kind), expected)
            self.assertNotEqual(self.calibrate_from(path, kind + "-3", "--seed", "3"), expected)
        self.assertEqual(self.calibrate_from(self.folder / "tokens.h5", "on-2", ranks=2), expected)

    def test_rows_and_strides_choose_the_samples(self):
        ids = program.lines_of_ids()[:4]
        program.write_npy(self.folder / "rows.npy", ids)
        program.write_npy(self.folder / "stream.npy", [one for row in ids for one in row])
        rows = self.calibrate_from(self.folder / "rows.npy", "rows")
        stream = self.calibrate_from(self.folder / "stream.npy", "stream", "--calib-stride", "256")
        self.assertEqual(rows, stream)


class EvaluationTest(program.ProgramTest):
    def perplexity(self, *arguments, ranks=0):
        path = self.folder / "result.json"
        end = self.succeed(["eval", *arguments, "--json", path], ranks)
        result = json.loads(path.read_text(encoding="utf-8"))
        value = next(iter(result["ppl"].values()))
        self.assertIn(f"perplexity {value:.4f}", end.stdout)
        self.assertEqual(result["settings"]["ranks"], max(ranks, 1))
        return value

    def test_full_precision_agrees_with_transformers(self):
        program.write_npy(self.folder / "eval.npy", program.lines_of_ids())
        arguments = ("--model", program.MODEL, "--ppl", self.folder / "eval.npy", "--seqlen", 256)
        found = self.perplexity(*arguments)
        self.assertAlmostEqual(found / 3.6601, 1.0, delta=1e-4)
        for ranks in (2, 3):
            self.assertEqual(self.perplexity(*arguments, ranks=ranks), found)

    def test_each_reference_case_has_its_loss(self):
        path = program.DATA / "reference" / "logits-stories260k.json"
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        for case in cases:
            if len(case["ids"]) < 2:
                continue  # nothing to predict
            program.write_npy(self.folder / "case.npy", case["ids"])
            found = self.perplexity("--model", program.MODEL, "--ppl", self.folder / "case.npy",
                                    "--seqlen", len(case["ids"]))
            expected = 2.718281828459045 ** case["nll_mean"]
            self.assertAlmostEqual(found / expected, 1.0, delta=1e-4, msg=case["case"])

    def test_a_run_is_evaluated_on_any_number_of_ranks(self):
        program.write_npy(self.folder / "eval.npy", program.lines_of_ids()[:8])
        exact = self.perplexity("--model", program.MODEL, "--ppl", self.folder / "eval.npy",
                                "--seqlen", 256)
        found = {}
        for bits in ("3", "8"):
            self.succeed(self.calibrate(bits, "--recipe", "rtn", "--wbits", bits))
            arguments = ("--run", self.folder / bits, "--ppl", self.folder / "eval.npy",
                         "--seqlen", 256)
            found[bits] = self.perplexity(*arguments)
            self.assertEqual(self.perplexity(*arguments, ranks=2), found[bits])
        self.assertAlmostEqual(found["8"] / exact, 1.0, delta=0.01)
        self.assertGreater(found["3"], exact * 1.05)

    def test_with_all_bits_every_change_of_basis_leaves_the_model_alone(self):
        program.write_npy(self.folder / "eval.npy", program.lines_of_ids()[:4])
        text = ("--ppl", self.folder / "eval.npy", "--seqlen", 256)
        exact = self.perplexity("--model", program.MODEL, *text)
        uniform = ("--recipe", "ruquant", "--set", "rotation.steps=4")
        for number, options in enumerate((
                ("--recipe", "duquant", "--set", "rotation.steps=16"),
                (*uniform, "--set", "rotation.blocks=separate"),
                (*uniform, "--set", "rotation.givens=reference", "--permutation-times", "3"),
                (*uniform, "--set", "rotation.calib=tokens", "--wave", "1"),
                ("--recipe", "rtn", "--set", "rotation.kind=hadamard"),
                ("--recipe", "rtn", "--set", "rotation.householder=fixed"),
                ("--recipe", "rtn", "--set", "rotation.qk=hadamard"),
                ("--recipe", "smoothquant", "--set", "smoothing.down=true"))):
            run = self.folder / f"exact-{number}"
            self.succeed(self.calibrate(run.name, *options, "--wbits", 16, "--abits", 16))
            found = self.perplexity("--run", run, *text)
            self.assertAlmostEqual(found / exact, 1.0, delta=1e-4, msg=options)

    def test_bits_of_keys_and_values_can_be_chosen_for_an_evaluation(self):
        program.write_npy(self.folder / "eval.npy", program.lines_of_ids()[:4])
        text = ("--ppl", self.folder / "eval.npy", "--seqlen", 256)
        exact = self.perplexity("--model", program.MODEL, *text)
        of_model = [self.perplexity("--model", program.MODEL, *text, "--kv-bits", bits)
                    for bits in (16, 8, 3)]
        self.assertAlmostEqual(of_model[0] / exact, 1.0, delta=1e-6)
        self.assertAlmostEqual(of_model[1] / exact, 1.0, delta=1e-2)
        self.assertGreater(of_model[2], exact * 1.01)
        # A run that was calibrated with 3 bits of them says the same, asked or not.
        self.succeed(self.calibrate("kv", "--recipe", "rtn", "--wbits", 16, "--kv-bits", 3))
        self.assertEqual(self.perplexity("--run", self.folder / "kv", *text), of_model[2])
        self.assertEqual(self.perplexity("--run", self.folder / "kv", *text, "--kv-bits", 8),
                         of_model[1])
        # Clusters have fixed ranges: those that nobody has found cannot be used.
        self.succeed(self.calibrate("rptq", "--recipe", "rptq-w4a16"))
        end = program.run(["eval", "--run", self.folder / "rptq", *text, "--kv-bits", 4])
        self.assert_refused(end, 2, "--kv-bits", "clusters.kind", "calibrate with --kv-bits")


class LookTest(program.ProgramTest):
    """version, status, inspect and the result as JSON."""

    def test_version(self):
        self.assertRegex(self.succeed(["--version"]).stdout, r"^\d+\.\d+\.\d+ \(\w+.*LibTorch 2\.")

    def test_the_result_as_json(self):
        path = self.folder / "result.json"
        self.succeed(self.calibrate("run", *LEARNED, "--json", path), 2)
        result = json.loads(path.read_text(encoding="utf-8"))
        self.assertEqual((result["ranks"], result["block_steps"], result["recipe"]),
                         (2, 20, "lrquant"))
        self.assertEqual(len(result["peak_memory_bytes"]), 2)

    def test_status_and_evaluation_of_an_unfinished_run(self):
        job = program.start(self.calibrate("run", *LEARNED, "--wave", "1", "--set",
                                           "train.epochs=100", "--cut-every", "1"))
        manifest = self.folder / "run" / "run.json"
        while job.poll() is None:
            if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["cut"]:
                self.assertIn("not finished", self.succeed(["status", "--run",
                                                            self.folder / "run"]).stdout)
                break
            time.sleep(0.01)
        job.kill()
        program.finish(job)
        status = self.succeed(["status", "--run", self.folder / "run"]).stdout
        self.assertRegex(status, r"blocks   \d of 5 finished")
        self.assertRegex(status, r"a resume starts in wave \d behind step \d+")
        for ranks in (0, 2):
            end = program.run(["eval", "--run", self.folder / "run", "--ppl", self.calib], ranks)
            self.assert_refused(end, 3, "not finished", "--resume")

    def test_status_and_files_of_a_finished_run(self):
        self.succeed(self.calibrate("run", *LEARNED), 2)
        run = self.folder / "run"
        status = self.succeed(["status", "--run", run]).stdout
        self.assertIn("blocks   5 of 5 finished\nstate    finished\n", status)
        shard = next(iter(sorted((run / "activations").glob("fp-001.*.h5"))))
        for path, texts in {
                run / "blocks" / "block-002.safetensors": ("block = 2", "recipe.weights.bits = 4",
                                                           "checksum holds"),
                run / "stats" / "block-002.safetensors": ("absmax", "[64]", "checksum holds"),
                run / "run.json": ("checksum holds", "finished", "seed = 2"),
                run / "tokens.h5": ("/tokens", "[4, 32]"),
                run / "activations.h5": ("/fp/000", "/fp/005", "[4, 32, 64]", "virtual"),
                shard: ("/samples", "[4, 32, 64]"),
                program.MODEL / "model.safetensors": ("47 tensors",
                                                      "model.embed_tokens.weight")}.items():
            told = self.succeed(["inspect", path]).stdout
            for text in texts:
                self.assertIn(text, told, path)

    def test_inspect_refuses_a_damaged_file(self):
        self.succeed(self.calibrate("run", "--recipe", "rtn", "--wbits", "4"))
        run = self.folder / "run"
        for name in ("blocks/block-002.safetensors", "run.json",
                     "activations/fp-001.rank-0.h5", "tokens.h5"):
            with self.subTest(name=name):
                self.flip_data(run / name)
                self.assert_refused(program.run(["inspect", run / name]), 3, os.path.basename(name))

    def flip_data(self, path):
        """One bit in the values, where only a checksum can find it."""
        content = bytearray(path.read_bytes())
        place = len(content) - 3 if path.suffix != ".h5" else len(content) // 2
        if path.name == "tokens.h5":
            first = program.lines_of_ids()[0][:8]
            place = content.index(b"".join(one.to_bytes(4, "little") for one in first))
        content[place] ^= 0x01
        path.write_bytes(bytes(content))


if __name__ == "__main__":
    program.main()

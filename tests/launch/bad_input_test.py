"""Wrong inputs end with their exit code and a message of three parts, alone and on two ranks.

After each failure the run directory must be either untouched or such that the corrected command
with --resume ends in the right bytes: nothing half-written may be trusted later.
"""
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile

import program

WBITS = ("--wbits", "4")


def edit_safetensors(path, change):
    """Give the header to `change`, which may edit it in place, and write it back."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    change(header)
    text = json.dumps(header).encode("utf-8")
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length:])


class BadInputTest(program.ProgramTest):
    unbroken = {}  # blocks of a run that met no wrong input, by its arguments, for all tests

    def setUp(self):
        super().setUp()
        self.number = 0

    def assert_ends(self, code, *texts, arguments, right=None, more_ranks=2):
        """Refused alone and under mpirun; then `right`, if given, works in the same directory."""
        for ranks in (0, more_ranks):
            self.number += 1
            run_name = f"run-{self.number}"
            asked = [self.folder / run_name if part == "RUN" else part for part in arguments]
            end = program.run(asked, ranks)
            self.assert_refused(end, code, *texts, note=program.command(asked, ranks))
            self.assertNotIn("remove that file", end.output, "these files are the user's own")
            self.assertEqual(program.blocks(self.folder / run_name), {})
            self.assertEqual(list(self.folder.glob("**/core*")), [])
            if (self.folder / run_name / "run.json").exists():
                self.assertIsNotNone(right, "this failure should come before run.json is written")
        if right is not None:
            self.succeed([self.folder / run_name if part == "RUN" else part for part in right] +
                         ["--resume"])
            self.assert_same_blocks(self.blocks_of(right), run_name)

    def blocks_of(self, arguments):
        key = tuple(str(part).replace(str(self.folder), "FOLDER") for part in arguments)
        if key not in self.unbroken:
            self.succeed([self.folder / "fresh" if part == "RUN" else part for part in arguments])
            self.unbroken[key] = program.blocks(self.folder / "fresh")
            shutil.rmtree(self.folder / "fresh")
        return self.unbroken[key]

    def asked(self, *more, model=program.MODEL, calib=None, samples=4, tokens=32):
        return ["calibrate", "--model", model, "--calib", calib or self.calib, "--run", "RUN",
                "--nsamples", samples, "--seqlen", tokens, "--log-level", "warning", *more]

    def rtn(self, **changes):
        return self.asked("--recipe", "rtn", *WBITS, **changes)


class BadModelTest(BadInputTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        shutil.copytree(program.MODEL, self.model)
        self.weights = self.model / "model.safetensors"

    def assert_model_refused(self, *texts, code=3):
        self.assert_ends(code, *texts, arguments=self.rtn(model=self.model), right=self.rtn())

    def edit_config(self, **fields):
        path = self.model / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config.update(fields)
        path.write_text(json.dumps(config), encoding="utf-8")

    def test_a_missing_tensor(self):
        name = "model.layers.3.mlp.up_proj.weight"
        edit_safetensors(self.weights, lambda header: header.pop(name))
        self.assert_model_refused(name)

    def test_a_truncated_file(self):
        program.truncate(self.weights)
        self.assert_model_refused("model.safetensors")

    def test_a_header_that_points_past_the_end(self):
        def change(header):
            entry = header["model.norm.weight"]
            entry["data_offsets"] = [offset + 10_000_000 for offset in entry["data_offsets"]]
        edit_safetensors(self.weights, change)
        self.assert_model_refused("model.safetensors")

    def test_a_header_longer_than_the_file(self):
        content = self.weights.read_bytes()
        self.weights.write_bytes(struct.pack("<Q", 1 << 40) + content[8:])
        self.assert_model_refused("model.safetensors")

    def test_an_empty_file(self):
        self.weights.write_bytes(b"")
        self.assert_model_refused("model.safetensors")

    def test_a_wrong_shape(self):
        def change(header):
            header["model.layers.2.self_attn.k_proj.weight"]["shape"] = [64, 32]
        edit_safetensors(self.weights, change)
        self.assert_model_refused("model.layers.2.self_attn.k_proj.weight", "[64, 32]", "[32, 64]")

    def test_an_unknown_architecture(self):
        self.edit_config(architectures=["FrobnicatorForCausalLM"], model_type="frobnicator")
        self.assert_model_refused("robnicator", "config.json")

    def test_a_config_that_is_no_json(self):
        (self.model / "config.json").write_text("{", encoding="utf-8")
        self.assert_model_refused("config.json")

    def test_a_missing_config(self):
        (self.model / "config.json").unlink()
        self.assert_model_refused("config.json")

    def test_no_weights(self):
        self.weights.unlink()
        self.assert_model_refused("model.safetensors")

    def test_no_tokenizer_for_a_text(self):
        for path in self.model.glob("tokenizer*"):
            path.unlink()
        text = self.folder / "text.txt"
        text.write_text("Once upon a time. " * 100, encoding="utf-8")
        self.assert_ends(3, "tokenizer", arguments=self.rtn(model=self.model, calib=text),
                         right=self.rtn())

    def test_a_missing_folder(self):
        shutil.rmtree(self.model)
        self.assert_model_refused("no such model folder", "--model")


class BadCalibrationTest(BadInputTest):
    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def test_a_text_shorter_than_the_samples_need(self):
        text = self.file("short.txt", b"Once upon a time")
        self.assert_ends(3, "has 5 tokens", "4 samples of 32", "--nsamples",
                         arguments=self.rtn(calib=text), right=self.rtn())

    def test_a_missing_file(self):
        for name in ("missing.txt", "missing.npy", "missing.h5", "missing.bin"):
            self.assert_ends(3, name, arguments=self.rtn(calib=self.folder / name),
                             right=self.rtn() if name == "missing.txt" else None)

    def test_files_that_hold_no_tokens(self):
        for name in ("bad.npy", "bad.h5"):
            path = self.file(name, b"this is no such file")
            self.assert_ends(3, name, arguments=self.rtn(calib=path))

    def test_a_truncated_token_file(self):
        program.truncate(self.calib)
        self.assert_ends(3, "calib.npy", arguments=self.rtn())

    def test_tokens_out_of_the_vocabulary(self):
        for name, wrong in (("high.npy", 512), ("low.npy", -1)):
            ids = program.lines_of_ids()[0]
            ids[100] = wrong
            program.write_npy(self.folder / name, ids)
            self.assert_ends(3, name, str(wrong), "511",
                             arguments=self.rtn(calib=self.folder / name))

    def test_too_few_rows(self):
        self.assert_ends(3, "8 rows of 256", "9 samples of 32", arguments=self.rtn(samples=9))

    def test_samples_longer_than_the_model_takes(self):
        self.assert_ends(2, "1024", "512", "--seqlen", arguments=self.rtn(tokens=1024))

    def test_a_batch_larger_than_the_samples(self):
        self.assert_ends(2, "--batch-size", "8", "4",
                         arguments=self.asked(*WBITS, "--batch-size", "8"))

    def test_no_samples(self):
        self.assert_ends(2, "--nsamples", arguments=self.rtn(samples=0))


class BadOptionTest(BadInputTest):
    def test_an_unknown_recipe_field(self):
        recipe = self.folder / "mine.toml"
        recipe.write_text('base = "rtn"\n[weights]\nbits = 4\nbitz = 4\n', encoding="utf-8")
        self.assert_ends(2, "weights.bitz", "mine.toml", arguments=self.asked("--recipe", recipe))
        self.assert_ends(2, "weights.bitz", "weights.bits",
                         arguments=self.asked(*WBITS, "--set", "weights.bitz=4"))

    def test_an_unknown_recipe(self):
        self.assert_ends(2, "lrqant", "did you mean 'lrquant'?",
                         arguments=self.asked(*WBITS, "--recipe", "lrqant"))

    def test_a_missing_recipe_file(self):
        self.assert_ends(3, "missing.toml", arguments=self.asked("--recipe", "missing.toml"))

    def test_bits(self):
        self.assert_ends(2, "weights.bits", "1", "2 to 16", arguments=self.asked("--wbits", "1"))
        self.assert_ends(2, "lrquant", "--wbits", arguments=self.asked())

    def test_groups_that_do_not_divide_the_inputs(self):
        self.assert_ends(2, "48", "group",
                         arguments=self.asked(*WBITS, "--group-size", "48"))

    def test_more_ranks_than_blocks(self):
        end = program.run(self.calibrate("run", "--recipe", "rtn", *WBITS,
                                         "--hidden-layer-num", "2"), 3)
        self.assert_refused(end, 2, "3 ranks, and the model has 2 blocks")
        self.assert_ends(2, "--hidden-layer-num", "6", "5",
                         arguments=self.asked(*WBITS, "--hidden-layer-num", "6"))

    def test_what_this_version_cannot_do(self):
        self.assert_ends(2, "nccl", "--transport mpi",
                         arguments=self.asked(*WBITS, "--transport", "nccl"))

    def test_a_gpu_where_there_is_none(self):
        self.assert_ends(2, "a limit of GPU memory", "option --gpu-memory", "--device cuda",
                         arguments=self.asked(*WBITS, "--gpu-memory", "4GB"))
        for arguments in (self.asked(*WBITS, "--device", "cuda"),
                          ["eval", "--model", program.MODEL, "--ppl", self.calib, "--device",
                           "cuda"]):
            self.assert_ends(2, "device cuda is asked for and there is no CUDA device",
                             "--device cpu", arguments=arguments)

    def test_an_unknown_option_or_command(self):
        self.assert_ends(2, "--frobnicate", "calibrate --help",
                         arguments=self.asked(*WBITS, "--frobnicate"))
        self.assert_ends(2, "calibrte", arguments=["calibrte"])
        self.assert_ends(2, "loud", arguments=["eval", "--model", program.MODEL, "--ppl",
                                              self.calib, "--log-level", "loud"])

    def test_evaluation_of_what_is_no_run(self):
        self.assert_ends(3, "run.json", arguments=["eval", "--run", "RUN", "--ppl", self.calib])

    def test_evaluation_needs_something_to_evaluate(self):
        self.assert_ends(2, "--model", "--run", arguments=["eval", "--ppl", self.calib])
        self.assert_ends(3, "--seqlen", arguments=["eval", "--model", program.MODEL, "--ppl",
                                                   self.short_text(), "--seqlen", "128"])

    def short_text(self):
        path = self.folder / "short.txt"
        path.write_text("Once upon a time", encoding="utf-8")
        return path


class FullDiskTest(BadInputTest):
    def test_a_full_disk_is_told_and_leaves_a_run_that_can_go_on(self):
        small = pathlib.Path(tempfile.mkdtemp(prefix="small-", dir=self.folder))
        mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(small)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            self.skipTest("mounting a tmpfs is not allowed here")
        try:
            learned = ("--epochs", "2", "--wave", "2", *WBITS)
            for ranks in (0, 2):
                end = program.run(self.calibrate(small / f"run-{ranks}", *learned), ranks)
                self.assert_refused(end, 3, str(small), "No space left")
                enlarge = ["mount", "-o", "remount,size=8m", str(small)]
                subprocess.run(enlarge, check=True)
                self.succeed(self.calibrate(small / f"run-{ranks}", *learned, "--resume"), ranks)
                self.succeed(self.calibrate(f"fresh-{ranks}", *learned))
                self.assert_same_blocks(program.blocks(self.folder / f"fresh-{ranks}"),
                                        small / f"run-{ranks}")
                shutil.rmtree(small / f"run-{ranks}")
                subprocess.run(["mount", "-o", "remount,size=128k", str(small)], check=True)
        finally:
            subprocess.run(["umount", str(small)], check=True)


if __name__ == "__main__":
    program.main()

"""Exported folders, made by the real program and read by the program and by other means."""
import json
import struct

import program

LEARNED = ("--epochs", "2", "--let-lr", "0.01")


def read_header(path):
    """A safetensors file's header and the number of its data bytes, by the format's description."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8:8 + length]), len(content) - 8 - length


class ExportTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.text = self.folder / "eval.npy"
        program.write_npy(self.text, program.lines_of_ids()[:8])

    def export(self, run_name, out, *more, ranks=0):
        self.succeed(["export", "--run", self.folder / run_name, "--format", "hf", "--out",
                      self.folder / out, *more], ranks)
        return self.folder / out

    def perplexity(self, *subject):
        path = self.folder / "result.json"
        self.succeed(["eval", *subject, "--ppl", self.text, "--seqlen", 256, "--json", path])
        return json.loads(path.read_text(encoding="utf-8"))["ppl"]["eval"]

    def test_weight_only_with_learned_shifts_in_several_files(self):
        self.succeed(self.calibrate("run", "--wbits", "4", "--group-size", "4", *LEARNED))
        out = self.export("run", "hf", "--max-shard-size", "400KB")
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        source = json.loads((program.MODEL / "config.json").read_text(encoding="utf-8"))
        self.assertEqual(config, {**source, "attention_bias": True, "mlp_bias": True})
        expected = self.perplexity("--run", self.folder / "run")
        found = self.perplexity("--model", out)
        self.assertAlmostEqual(found / expected, 1.0, delta=1e-5)
        self.assertNotAlmostEqual(found / self.perplexity("--model", program.MODEL), 1.0, delta=1e-3)

        index = json.loads((out / "model.safetensors.index.json").read_text(encoding="utf-8"))
        places, total = {}, 0
        for path in sorted(out.glob("model-*.safetensors")):
            header, data = read_header(path)
            self.assertEqual(header.pop("__metadata__"), {"format": "pt"})
            self.assertLessEqual(data, 400_000)
            end = 0
            for name, entry in header.items():
                self.assertEqual(entry["data_offsets"][0], end, name)
                self.assertEqual(entry["dtype"], "F32")
                end = entry["data_offsets"][1]
                places[name] = path.name
            self.assertEqual(end, data)
            total += data
        self.assertEqual(len(set(places.values())), 3)
        self.assertEqual(index, {"metadata": {"total_size": total}, "weight_map": places})
        self.assertEqual(sum(name.endswith(".bias") for name in places), 5 * 7)

        on_two = self.export("run", "on-two", "--max-shard-size", "400KB", ranks=2)
        for path in out.iterdir():
            self.assertEqual(path.read_bytes(), (on_two / path.name).read_bytes(), path.name)

    def test_activation_bits_are_left_out_by_name(self):
        # Nothing is learned, so that both runs have the same weights.
        preset = ("--recipe", "lrquant-export", "--wbits", "6", "--epochs", "0")
        self.succeed(self.calibrate("w6a6", *preset, "--abits", "6"))
        self.succeed(self.calibrate("w6", *preset))
        out = self.export("w6a6", "hf", "--json", self.folder / "told.json")
        told = json.loads((self.folder / "told.json").read_text(encoding="utf-8"))
        note = json.loads((out / "lrq_dist.json").read_text(encoding="utf-8"))
        self.assertEqual([line.split(" is left out")[0] for line in note["left_out"]],
                         ["activations.bits = 6", "activations.kv_bits = 6"])
        self.assertEqual(told["left_out"], note["left_out"])
        self.assertEqual((note["format"], note["run"]["recipe.weights.bits"], note["run"]["seed"]),
                         ("lrq-dist export 1", "6", "2"))
        self.assertEqual((out / "config.json").read_bytes().count(b"\"attention_bias\": false"), 1)
        weights = self.perplexity("--run", self.folder / "w6")
        self.assertAlmostEqual(self.perplexity("--model", out) / weights, 1.0, delta=1e-6)
        self.assertGreater(self.perplexity("--run", self.folder / "w6a6"), weights * 1.01)

    def test_weights_quantized_in_another_basis_come_back_in_their_own(self):
        self.succeed(self.calibrate("run", "--recipe", "ruquant-lh", "--epochs", "1", "--wave", "1",
                                    "--wbits", "4", "--abits", "16", "--set", "rotation.steps=4",
                                    "--set", "weights.rounding=gptq"))
        found = self.perplexity("--model", self.export("run", "hf"))
        self.assertAlmostEqual(found / self.perplexity("--run", self.folder / "run"), 1.0,
                               delta=1e-5)
        self.assertNotAlmostEqual(found / self.perplexity("--model", program.MODEL), 1.0, delta=1e-3)

    def test_the_first_blocks_are_a_model_of_their_own(self):
        self.succeed(self.calibrate("run", "--recipe", "rtn", "--wbits", "4",
                                    "--hidden-layer-num", "2"))
        end = self.succeed(["export", "--run", self.folder / "run", "--format", "hf", "--out",
                            self.folder / "hf", "--dtype", "bfloat16"])
        self.assertIn("27 tensors of the source that the run did not use: model.layers.2.",
                      end.stdout)
        config = json.loads((self.folder / "hf" / "config.json").read_text(encoding="utf-8"))
        self.assertEqual((config["num_hidden_layers"], config["torch_dtype"]), (2, "bfloat16"))
        self.assertAlmostEqual(self.perplexity("--model", self.folder / "hf") /
                               self.perplexity("--run", self.folder / "run"), 1.0, delta=0.02)


class RefusalTest(program.ProgramTest):
    def export(self, run_name, *more):
        return program.run(["export", "--run", self.folder / run_name, "--out",
                            self.folder / "hf", *(more or ("--format", "hf"))])

    def test_a_shift_before_quantized_activations(self):
        self.succeed(self.calibrate("run", "--wbits", "4", "--abits", "8", "--epochs", "1"))
        self.assert_refused(self.export("run"), 2, "input_layernorm", "smoothing.shift",
                            "lrquant-export")
        self.assertFalse((self.folder / "hf").exists())

    def test_a_change_of_basis_before_quantized_activations(self):
        self.succeed(self.calibrate("run", "--recipe", "duquant-w4a4", "--set", "rotation.steps=2"))
        self.assert_refused(self.export("run"), 2, "rotation, permutation", "qkv_in",
                            "rotation.kind", "--abits 16")
        self.assertFalse((self.folder / "hf").exists())

    def test_what_is_no_finished_run_and_what_is_in_the_way(self):
        self.succeed(self.calibrate("run", "--recipe", "rtn", "--wbits", "4"))
        self.assert_refused(self.export("run", "--format", "onnx"), 2, "'onnx'", "use one of: hf")
        self.assert_refused(self.export("nowhere"), 3, "no run.json")
        self.assert_refused(self.export("run", "--format", "hf", "--model", self.folder), 3,
                            "no config.json")
        (self.folder / "hf").mkdir()
        (self.folder / "hf" / "letters.txt").write_text("dear", encoding="utf-8")
        self.assert_refused(self.export("run"), 2, "not empty", "--overwrite")
        self.assert_refused(self.export("run", "--format", "hf", "--overwrite"), 2, "lrq_dist.json")
        self.assertEqual([path.name for path in (self.folder / "hf").iterdir()], ["letters.txt"])

    def test_a_damaged_block_file(self):
        self.succeed(self.calibrate("run", "--recipe", "lrquant-export", "--wbits", "4",
                                    "--epochs", "1"))
        program.flip_one_byte(self.folder / "run" / "blocks" / "block-003.safetensors")
        self.assert_refused(self.export("run"), 3, "block-003.safetensors")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["calib.npy", "run"])


if __name__ == "__main__":
    program.main()

"""lrq-dist plan: what it prints and refuses, and its memory beside what a run takes."""
import json
import os
import unittest

import program

CONFIGS = program.DATA / "configs"
H100 = ("--machine", "h100", "--recipe", "lrquant-w4a4")


class PlanTest(program.ProgramTest):
    def plan(self, *options):
        self.succeed(["plan", *options, "--json", self.folder / "plan.json"])
        return json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))

    def test_a_gpu_is_headed_as_never_run_and_this_machine_is_not(self):
        model = ("--model", CONFIGS / "llama-2-7b.json")
        page = self.succeed(["plan", *model, *H100]).stdout
        self.assertTrue(page.startswith("PREDICTED, NEVER RUN"), page)
        self.assertIn("32 blocks of 202383360 parameters, 6738415616 in all", page)
        page = self.succeed(["plan", *model, "--recipe", "lrquant-w4a4"]).stdout
        self.assertNotIn("PREDICTED", page)

    def test_what_calibrate_cannot_do_is_marked(self):
        model = ("--model", CONFIGS / "llama-2-7b.json")
        page = self.succeed(["plan", *model, *H100, "--targets", "memory"]).stdout
        self.assertIn("targets: memory\n", page)
        page = self.succeed(["plan", *model, *H100, "--gpus", "64"]).stdout  # of 32 blocks
        self.assertIn("targets: disk (calibrate takes at most 32 ranks)\n", page)

    def test_70b_fills_8_64_and_80_gpus(self):
        kept = ("--model", CONFIGS / "llama-2-70b.json", *H100, "--targets", "memory")
        eight = self.plan(*kept, "--gpus", "8", "--wave", "8")
        self.assertGreaterEqual(eight["utilisation"], 0.95)
        self.assertLessEqual(eight["seconds"], 15 * 60)
        # The products alone: 20 epochs of 6 operations a weight and token, 60 % of 989 TFLOP/s.
        self.assertGreater(eight["seconds"], 7.6 * 60)
        eighty = self.plan(*kept, "--gpus", "80", "--wave", "80")
        self.assertGreaterEqual(eighty["utilisation"], 0.9)
        replicas = self.plan(*kept, "--gpus", "64", "--wave", "16", "--batch-size", "4",
                             "--replicas", "4")
        self.assertGreaterEqual(replicas["utilisation"], 0.9)

    def test_what_does_not_fit_says_what_to_change(self):
        job = ("--model", CONFIGS / "llama-3.1-405b.json", *H100, "--gpus", "8", "--gpu-mem", "80GB")
        result = self.plan(*job)
        self.assertFalse(result["fits"])
        # A block has 3.188e9 parameters, 6.38 GB; rank 0 also holds 8.41 GB of embedding, and a
        # process needs 1.61: 11 blocks (12 ranks) make 80.1 GB without samples, 10 (13 ranks) 73.8.
        self.assertEqual(result["change"], "use more ranks: --ranks 13, or hold fewer of a rank's "
                                           "blocks at a time: --resident-blocks 10")
        held = self.plan(*job, "--resident-blocks", "10")
        self.assertTrue(held["fits"])
        self.assertGreater(held["seconds"], result["seconds"])  # they are read again and again
        self.assertFalse(self.plan(*job, "--resident-blocks", "11")["fits"])

    def test_options_that_do_not_fit_together_are_refused(self):
        model = ("--model", CONFIGS / "llama-2-7b.json", *H100)
        for options, code, where in (
                ((*model, "--replicas", "3"), 2, "3 replicas cannot share a micro-batch of 1"),
                ((*model, "--gpu-mem", "lots"), 2, "option --gpu-mem"),
                ((*model, "--gpus", "4", "--slow-rank", "4"), 2, "no rank 4 among 4"),
                ((*model, "--slow-factor", "0"), 2, "found '0', expected a number above 0"),
                ((*model, "--targets", "recompute", "--set", "train.schedule=independent"), 2,
                 "use --targets disk or memory"),
                (("--model", CONFIGS / "llama-2-7b.json", "--machine", "b100"), 2,
                 "option --machine"),
                (("--model", self.folder, *H100), 3, "config.json"),
                (H100, 2, "option --model")):
            self.assert_refused(program.run(["plan", *options]), code, where)

    def test_a_machine_file_without_a_figure_is_refused(self):
        file = self.folder / "machine.json"
        file.write_text('{"float32_products": 1e9}', encoding="utf-8")
        end = program.run(["plan", "--model", program.MODEL, "--wbits", "4", "--machine", file])
        self.assert_refused(end, 3, "the figure bfloat16_products is missing")

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "a sanitizer's own memory would be measured too")
    def test_a_probed_machine_plans_the_memory_of_a_run(self):
        machine = self.folder / "machine.json"
        self.succeed(["plan", "--probe", "--json", machine])
        options = ("--nsamples", "4", "--seqlen", "64", "--recipe", "lrquant-w6a6", "--epochs", "1")
        planned = self.plan("--model", program.MODEL, "--machine", machine, *options)
        self.succeed(["calibrate", "--model", program.MODEL, "--calib", self.calib, "--run",
                      self.folder / "run", "--json", self.folder / "run.json", *options])
        measured = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        ratio = planned["memory"][0]["needed"] / measured["peak_memory_bytes"][0]
        self.assertTrue(0.85 < ratio < 1.15, ratio)


if __name__ == "__main__":
    program.main()

"""eval --tta: the last block adapts to the unlabelled text, and nothing is left of it afterwards."""
import json
import re

import program

TASKS = program.DATA / "zero-shot"


class AdaptationTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.result = self.folder / "result.json"
        self.text = self.folder / "story.txt"
        stories = [json.loads(line)["text"] for line in
                   program.TEXT.read_text(encoding="utf-8").splitlines()]
        self.text.write_text("\n".join(stories), encoding="utf-8")

    def calibrated(self, name, *more):
        self.succeed(self.calibrate(name, "--wbits", "3", "--epochs", "1", *more))
        return self.folder / name

    def evaluate(self, run, *more, ranks=0, limit=3):
        end = self.succeed(["eval", "--run", run, "--ppl", self.text, "--seqlen", 48, "--limit",
                            limit, "--tta", "--json", self.result, *more], ranks)
        return json.loads(self.result.read_text(encoding="utf-8")), end

    def test_every_number_of_ranks_adapts_to_the_same_figures(self):
        run = self.calibrated("run", "--abits", "6")
        for options in ((), ("--set", "tta.scope=sequence", "--set", "tta.target=fp_chain"),
                        ("--set", "tta.input=embedding", "--set", "tta.act_quant=false")):
            with self.subTest(options):
                one, end = self.evaluate(run, *options)
                self.assertNotEqual(one["ppl_adapted"], one["ppl"])
                self.assertIn("adaptation of the last block: init=", end.stdout)
                for ranks in (2, 3):
                    more, _ = self.evaluate(run, *options, ranks=ranks)
                    self.assertEqual(more["ppl"], one["ppl"])
                    self.assertEqual(more["ppl_adapted"], one["ppl_adapted"])

    def test_adapting_lowers_its_own_loss(self):
        run = self.calibrated("run")
        _, end = self.evaluate(run, "--set", "tta.epochs=20")
        first, last = re.search(r"loss_first_epoch=(\S+) loss_last_epoch=(\S+)", end.output).groups()
        self.assertLess(float(last), float(first))

    def test_a_calibrated_block_that_takes_no_step_scores_as_the_run(self):
        run = self.calibrated("run", "--recipe", "lrquant-wo")
        found, _ = self.evaluate(run, "--set", "tta.init=calibrated", "--set", "tta.lwc_lr=0")
        self.assertEqual(found["ppl_adapted"], found["ppl"])

    def test_nothing_is_left_of_it_for_the_next_text(self):
        run = self.calibrated("run")
        other = self.folder / "other.txt"
        other.write_text(self.text.read_text(encoding="utf-8")[2000:], encoding="utf-8")
        both, _ = self.evaluate(run, "--ppl", other)
        self.succeed(["eval", "--run", run, "--ppl", other, "--seqlen", 48, "--limit", 3,
                      "--json", self.result])
        alone = json.loads(self.result.read_text(encoding="utf-8"))
        self.assertEqual(both["ppl"]["other"], alone["ppl"]["other"])
        self.assertNotIn("ppl_adapted", alone)

    def test_the_calibration_set_is_not_adapted_to(self):
        run = self.calibrated("run")
        asked = ["eval", "--run", run, "--ppl", run / "tokens.h5", "--seqlen", 32, "--limit", 4, "--tta",
                 "--json", self.result]
        end = self.succeed(asked, 2)
        self.assertIn("not adapted, it is the calibration set", end.stdout)
        self.assertNotIn("ppl_adapted", json.loads(self.result.read_text(encoding="utf-8")))
        self.succeed([*asked, "--set", "tta.skip_calib_set=false"], 2)
        self.assertIn("ppl_adapted", json.loads(self.result.read_text(encoding="utf-8")))

    def test_tasks_are_adapted_to_by_their_contexts(self):
        run = self.calibrated("run", "--abits", "6")
        found = []
        for ranks in (0, 2):
            self.succeed(["eval", "--run", run, "--tasks", "piqa,lambada_openai", "--task-dir", TASKS,
                          "--limit", 3, "--seqlen", 32, "--tta", "--json", self.result], ranks)
            found.append(json.loads(self.result.read_text(encoding="utf-8")))
        self.assertEqual(found[0]["tasks_adapted"], found[1]["tasks_adapted"])
        self.succeed(["eval", "--run", run, "--tasks", "piqa,lambada_openai", "--task-dir", TASKS,
                      "--limit", 3, "--json", self.result])
        self.assertEqual(found[0]["tasks"],
                         json.loads(self.result.read_text(encoding="utf-8"))["tasks"])
        self.assertNotEqual(found[0]["tasks_adapted"]["lambada_openai"]["perplexity"],
                            found[0]["tasks"]["lambada_openai"]["perplexity"])

    def test_what_cannot_be_adapted_is_refused(self):
        run = self.calibrated("run")
        self.succeed(self.calibrate("clusters", "--recipe", "rptq-w4a16"))
        for arguments, text in (
                (["--run", self.folder / "clusters", "--tta"], "clusters with fixed ranges"),
                (["--model", program.MODEL, "--tta"], "name the run directory with --run"),
                (["--run", run, "--tta", "--set", "train.epochs=3"], "would change a finished run"),
                (["--run", run, "--tta", "--set", "tta.epochs=0"], "tta.epochs is 0"),
                (["--run", run, "--set", "tta.epochs=2"], "--tta")):
            end = program.run(["eval", "--ppl", self.text, *arguments])
            self.assertEqual(end.code, 2, end.output)
            self.assertIn(text, end.output)


if __name__ == "__main__":
    program.main()

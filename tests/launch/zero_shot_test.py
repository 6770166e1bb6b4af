"""eval --tasks: the same figures on any number of ranks, and messages for what cannot be."""
import json

import program

TASKS = program.DATA / "zero-shot"
REFERENCE = program.DATA / "reference" / "zero-shot-stories260k.json"


class ZeroShotTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.result = self.folder / "result.json"
        self.likelihoods = self.folder / "likelihoods.jsonl"

    def evaluate(self, *more, tasks, model=program.MODEL):
        return ["eval", "--model", model, "--tasks", tasks, "--log-level", "warning", "--json",
                self.result, "--log-likelihoods", self.likelihoods, *more]

    def results(self):
        return json.loads(self.result.read_text(encoding="utf-8"))

    def lines(self):
        return [json.loads(line) for line in self.likelihoods.read_text("utf-8").splitlines()]

    def write(self, name, *documents):
        """A task file; a document that is a text is written as it is."""
        path = self.folder / f"{name}.jsonl"
        lines = [one if isinstance(one, str) else json.dumps(one) + "\n" for one in documents]
        path.write_text("".join(lines), encoding="utf-8")
        return path


class ScoresTest(ZeroShotTest):
    def test_every_number_of_ranks_gives_the_same_figures(self):
        asked = self.evaluate("--task-dir", TASKS, "--limit", "2",
                              tasks="piqa,lambada_openai,mmlu,boolq")
        one = self.succeed(asked).stdout
        first, likelihoods = self.results(), self.likelihoods.read_bytes()
        for ranks in (2, 3):
            self.assertEqual(self.succeed(asked, ranks).stdout, one)
            found = self.results()
            self.assertEqual((found["tasks"], found["tasks_mean"]),
                             (first["tasks"], first["tasks_mean"]))
            self.assertEqual(self.likelihoods.read_bytes(), likelihoods)
        self.assertEqual(list(first["tasks"]), ["piqa", "lambada_openai", "mmlu", "boolq"])
        self.assertEqual(first["tasks"]["piqa"]["headline"], "acc_norm")
        self.assertEqual(first["tasks"]["piqa"]["n"], 2)
        self.assertEqual(set(first["tasks"]["lambada_openai"]),
                         {"acc", "acc_stderr", "perplexity", "perplexity_stderr", "n", "headline"})
        heads = [task[task["headline"]] for task in first["tasks"].values()]
        self.assertAlmostEqual(first["tasks_mean"], sum(heads) / 4, places=12)
        errors = [task[task["headline"] + "_stderr"] for task in first["tasks"].values()]
        self.assertAlmostEqual(first["tasks_mean_stderr"],
                               sum(error ** 2 for error in errors) ** 0.5 / 4, places=12)
        self.assertEqual(first["settings"]["zero_shot"]["tokenize"], "together")

    def test_the_log_likelihoods_are_those_of_the_reference(self):
        expected = json.loads(REFERENCE.read_text(encoding="utf-8"))["tasks"]["winogrande"]["cases"]
        self.succeed(self.evaluate("--limit", "2", tasks=TASKS / "winogrande.jsonl"))
        found = self.lines()
        self.assertEqual([(line["id"], line["pair"]) for line in found],
                         [(case["id"], pair) for case in expected[:2] for pair in (0, 1)])
        for line in found:
            case = next(case for case in expected if case["id"] == line["id"])
            self.assertAlmostEqual(line["log_likelihood"], case["loglik"][line["pair"]], delta=1e-3)
            self.assertEqual(line["tokens"], case["tokens"][line["pair"]])

    def test_perplexity_and_tasks_in_one_evaluation(self):
        self.succeed(self.evaluate("--task-dir", TASKS, "--limit", "1", "--ppl", self.calib,
                                   "--seqlen", "256", tasks="arc_*"), 2)
        found = self.results()
        self.assertEqual(list(found["tasks"]), ["arc_challenge", "arc_easy"])
        self.assertIn("calib", found["ppl"])
        self.assertIsNone(found["tasks"]["arc_easy"]["acc_stderr"], "of one document")

    def test_tokenizing_apart_is_told_and_changes_the_figures(self):
        asked = self.evaluate("--task-dir", TASKS, "--limit", "1", tasks="openbookqa")
        self.succeed(asked)
        together = self.lines()
        told = self.succeed(asked + ["--zero-shot-tokenize", "separate"]).stdout
        self.assertIn("tokenized separately, no BOS", told)
        self.assertEqual(self.results()["settings"]["zero_shot"]["bos"], "no BOS")
        self.assertNotEqual(self.lines(), together)

    def test_too_long_a_context_is_cut_and_counted(self):
        path = self.write("long", {"pairs": [["Once upon a time. " * 200, " a"], ["Q", " b"]],
                                   "gold": 0})
        self.succeed(self.evaluate(tasks=path))
        self.assertEqual(self.results()["settings"]["zero_shot"]["truncated"], {"long": 1})
        self.assertEqual([line["truncated"] for line in self.lines()], [True, False])


class RefusedTest(ZeroShotTest):
    def refuse(self, code, *texts, arguments):
        for ranks in (0, 2):
            self.assert_refused(program.run(arguments, ranks), code, *texts,
                                note=program.command(arguments, ranks))
        self.assertFalse(self.result.exists())
        self.assertFalse(self.likelihoods.exists())

    def test_malformed_lines(self):
        good = {"pairs": [["Q", " a"], ["Q", " b"]], "gold": 0}
        path = self.write("mine", good, {"pairs": [["Q", " a"], ["Q", " b"]], "gold": 2})
        self.refuse(3, "mine.jsonl, line 2", '"gold" is 2', "0 to 1",
                    arguments=self.evaluate(tasks=path))
        self.refuse(3, "mine.jsonl", "no document",
                    arguments=self.evaluate(tasks=self.write("mine", "\n")))
        path = self.write("mine", good, {"pairs": [["Q", " a"], ["Q", " word" * 600]], "gold": 0})
        self.refuse(3, "task mine, document 2, pair 1", "512",
                    arguments=self.evaluate(tasks=path))

    def test_tasks_that_are_not_there(self):
        self.refuse(2, "'piqa'", "--task-dir", arguments=self.evaluate(tasks="piqa"))
        self.refuse(2, "did you mean 'piqa'?", "boolq",
                    arguments=self.evaluate("--task-dir", TASKS, tasks="piqua"))
        self.refuse(2, "'*'", str(self.folder),
                    arguments=self.evaluate("--task-dir", self.folder, tasks="*"))
        self.refuse(3, "missing.jsonl",
                    arguments=self.evaluate(tasks=self.folder / "missing.jsonl"))
        self.refuse(2, "two tasks are named 'piqa'",
                    arguments=self.evaluate("--task-dir", TASKS, tasks="piqa,p*"))

    def test_options(self):
        self.refuse(2, "--num-fewshot", "5, not 0",
                    arguments=self.evaluate("--task-dir", TASKS, "--num_fewshot", "5",
                                            tasks="piqa"))
        self.refuse(2, "--ppl or --tasks", arguments=["eval", "--model", program.MODEL])
        self.refuse(2, "--zero-shot-tokenize", "twice",
                    arguments=self.evaluate("--zero-shot-tokenize", "twice", tasks="piqa"))


if __name__ == "__main__":
    program.main()

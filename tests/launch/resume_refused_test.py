"""When a resume is refused, and when it is not."""
import fcntl

import program


class RefusedTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.succeed(self.options())

    def options(self, *more):
        return self.calibrate("run", "--wbits", "4", "--epochs", "1", *more)

    def test_a_directory_that_holds_a_run_is_refused_without_resume(self):
        for ranks in (0, 2):
            self.assert_refused(program.run(self.options(), ranks), 2, "holds a run already",
                                "run.json", "--resume")

    def test_changed_options_are_refused_by_name(self):
        changes = {("--wbits", "3"): "recipe.weights.bits: run has 4, asked 3",
                   ("--epochs", "2"): "recipe.train.epochs: run has 1, asked 2",
                   ("--seed", "5"): "seed: run has 2, asked 5",
                   ("--dtype", "bfloat16"): "dtype: run has float32, asked bfloat16",
                   ("--nsamples", "3"): "tokens: run has 4 x 32",
                   ("--threads", "2"): "threads: run has 1, asked 2",
                   ("--set", "loss.nlc_p=0.5"): "recipe.loss.nlc_p: run has 1.0, asked 0.5",
                   ("--hidden-layer-num", "3"): "model: run has"}
        before = program.blocks(self.folder / "run")
        for change, text in changes.items():
            with self.subTest(change=change):
                arguments = [part for part in self.options("--resume")]
                if change[0] in arguments:
                    arguments[arguments.index(change[0]) + 1] = change[1]
                else:
                    arguments += change
                self.assert_refused(program.run(arguments), 2, text, "run.json")
        self.assertEqual(program.blocks(self.folder / "run"), before)

    def test_another_machine_may_be_allowed(self):
        self.succeed(self.options("--resume", "--threads", "2", "--other-machine"))

    def test_a_locked_directory_is_refused(self):
        with open(self.folder / "run" / "lock", "r+", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for ranks in (0, 2):
                self.assert_refused(program.run(self.options("--resume"), ranks), 2, "is in use")
        self.succeed(self.options("--resume"))

    def test_resume_starts_in_an_empty_or_missing_directory(self):
        expected = program.blocks(self.folder / "run")
        (self.folder / "empty").mkdir()
        for name in ("empty", "missing"):
            arguments = self.options("--resume")
            arguments[arguments.index("--run") + 1] = self.folder / name
            self.succeed(arguments)
            self.assert_same_blocks(expected, name)


if __name__ == "__main__":
    program.main()

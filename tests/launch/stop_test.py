"""Asked to stop, a run makes a cut and exits 75; resumed, it ends in the bytes of an unbroken one."""
import json
import os
import random
import signal
import time
import unittest.mock

import program

STOPPED = 75


class StopTest(program.ProgramTest):
    """A run that takes some seconds, a cut every 1600 steps only: what is kept was kept on request."""

    epochs = 50
    expected = {}  # by epochs and options

    def options(self, run_name, *more, log="info"):
        return self.calibrate(run_name, "--wbits", 4, "--abits", 6, "--wave", 2, "--batch-size", 2,
                              "--epochs", self.epochs, "--cut-every", 1600, *more,
                              samples=8, log=log)

    def cut_of(self, run_name):
        path = self.folder / run_name / "run.json"
        return json.loads(path.read_text(encoding="utf-8"))["cut"] if path.exists() else None

    def length_of_metrics(self, run_name):
        path = self.folder / run_name / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def start_learning(self, run_name, ranks, *more, log="info"):
        """A job that has just learned something: its metrics have grown."""
        before = self.length_of_metrics(run_name)
        job = program.start(self.options(run_name, "--resume", *more, log=log), ranks)
        until = time.monotonic() + program.LIMIT_S
        while time.monotonic() < until and job.poll() is None:
            if self.length_of_metrics(run_name) > before:
                return job
            time.sleep(0.02)
        self.fail("nothing was learned in time")

    def stop(self, run_name, ranks, how=signal.SIGUSR1, to_rank=None, more=()):
        """Start or go on, send the signal to mpirun, the plain process or one rank, and end."""
        job = self.start_learning(run_name, ranks, *more)
        os.kill(job.pid if to_rank is None else program.ranks_of(job)[to_rank], how)
        return program.finish(job)

    def assert_stopped(self, end, run_name):
        self.assertEqual(end.code, STOPPED, end.output)
        self.assertIn("run again with --resume", end.stdout, end.output)
        cut = self.cut_of(run_name)
        self.assertIsNotNone(cut)
        folder = (self.folder / run_name / "snapshots" / f"wave-{cut['wave']:02}" /
                  f"step-{cut['step']:05}")
        self.assertGreater((cut["wave"], cut["step"]), (0, 0))
        self.assertEqual(len(list(folder.glob("block-*.safetensors"))), 2)

    def assert_resumes_to(self, expected, run_name, ranks):
        self.succeed(self.options(run_name, "--resume"), ranks)
        self.assert_same_blocks(expected, run_name)

    def unbroken(self, *more):
        """The block files of a run that nobody stopped; made once for all tests."""
        key = (self.epochs, *more)
        if key not in self.expected:
            self.succeed(self.options("unbroken", *more))
            self.expected[key] = program.blocks(self.folder / "unbroken")
        return self.expected[key]

    def test_on_any_number_of_ranks(self):
        expected = self.unbroken()
        for ranks, resumed_on in ((0, 2), (2, 4), (4, 0)):  # 4: two replicas of two stages
            end = self.stop(f"on-{ranks}", ranks)
            self.assert_stopped(end, f"on-{ranks}")
            self.assertRegex(end.output, r"event=stop wave=0 after_step=\d+")
            self.assert_resumes_to(expected, f"on-{ranks}", resumed_on)

    def test_again_and_again_by_either_signal(self):
        self.epochs = 120
        expected = self.unbroken()
        dice = random.Random(7)
        cuts = []
        for ranks, how in ((2, signal.SIGTERM), (0, signal.SIGTERM), (3, signal.SIGUSR1)):
            job = self.start_learning("again", ranks)
            time.sleep(dice.uniform(0.1, 0.5))
            if (ranks > 0, how) == (True, signal.SIGTERM):  # as srun does; mpirun has its own way
                for rank in program.ranks_of(job).values():
                    os.kill(rank, how)
            else:
                os.kill(job.pid, how)
            self.assert_stopped(program.finish(job), "again")
            cuts.append((self.cut_of("again")["wave"], self.cut_of("again")["step"]))
        self.assertEqual(cuts, sorted(set(cuts)), "each call goes further")
        self.assert_resumes_to(expected, "again", 2)

    def test_mpirun_told_to_end(self):
        # Open MPI passes SIGTERM on after this many seconds and sends SIGKILL as many later, so
        # whether the cut comes in time is the machine's affair: what a kill leaves resumes too.
        self.enterContext(unittest.mock.patch.dict(
            os.environ, {"OMPI_MCA_odls_base_sigkill_timeout": "1"}))
        self.epochs = 120
        expected = self.unbroken()
        # mpirun sleeps in between and reads nothing: a rank that tells much would wait for it.
        job = self.start_learning("ended", 2, log="warning")
        os.kill(job.pid, signal.SIGTERM)
        end = program.finish(job)
        self.assertNotEqual(end.code, 0, end.output)  # mpirun's own
        if "run again with --resume" in end.stdout:
            self.assertIsNotNone(self.cut_of("ended"))
        self.assert_resumes_to(expected, "ended", 0)

    def test_where_blocks_learn_independently(self):
        more = ("--set", "train.schedule=independent")
        expected = self.unbroken(*more)
        end = self.stop("independent", 2, more=more)
        self.assert_stopped(end, "independent")
        self.succeed(self.options("independent", "--resume", *more), 3)
        self.assert_same_blocks(expected, "independent")

    def test_the_word_of_one_rank_is_enough_if_it_is_the_first(self):
        end = self.stop("first", 3, to_rank=0)
        self.assert_stopped(end, "first")

    def test_a_rank_that_cannot_ends_without_a_cut(self):
        expected = self.unbroken()
        end = self.stop("late", 2, to_rank=1, more=("--stop-timeout", 0.2))
        self.assertEqual(end.code, STOPPED, end.output)
        self.assertIn("no new cut was made within 0.2 s", end.output)
        self.assertIn("--resume", end.output)
        self.assertIsNone(self.cut_of("late"))
        self.assert_resumes_to(expected, "late", 0)

    def test_before_anything_is_learned(self):
        expected = self.unbroken()
        job = program.start(self.options("early", "--resume"), 2)
        until = time.monotonic() + program.LIMIT_S
        while not (self.folder / "early" / "activations").exists() and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(job.pid, signal.SIGUSR1)
        end = program.finish(job)
        self.assertEqual(end.code, STOPPED, end.output)
        self.assert_resumes_to(expected, "early", 2)


if __name__ == "__main__":
    program.main()

"""A run that was killed ends in the bytes of an unbroken one, resumed on any number of ranks."""
import json
import os
import random
import signal
import time

import program

LEARNED = ("--wbits", "4", "--abits", "6", "--wave", "2", "--batch-size", "2")


def files_of_named_cut(run):
    """(files that the newest cut in run.json consists of, those of them that are there)."""
    path = run / "run.json"
    cut = json.loads(path.read_text(encoding="utf-8"))["cut"] if path.exists() else None
    if cut is None or cut["step"] == 0:
        return [], []
    folder = run / "snapshots" / f"wave-{cut['wave']:02}" / f"step-{cut['step']:05}"
    first = 2 * cut["wave"]
    needed = [folder / f"block-{block:03}.safetensors" for block in range(first, min(first + 2, 5))]
    return needed, [file for file in needed if file.exists()]


class CutsTest(program.ProgramTest):
    def test_a_cut_at_every_step_disturbs_no_rank(self):
        options = ("--wbits", "4", "--wave", "3", "--epochs", "8")
        self.succeed(self.calibrate("rare", *options, tokens=16))
        expected = program.blocks(self.folder / "rare")
        for ranks in (0, 1, 2, 3):
            self.succeed(self.calibrate(f"often-{ranks}", *options, "--cut-every", 1, tokens=16),
                         ranks)
            self.assert_same_blocks(expected, f"often-{ranks}")


class KilledTest(program.ProgramTest):
    """kill -9 to one rank at a random moment, then --resume on another number of ranks."""
    also = ()  # options besides LEARNED

    def options(self, run_name, *more):
        return self.calibrate(run_name, *LEARNED, *self.also, "--epochs", 16, *more, samples=8)

    def victim(self, job, ranks, dice):
        """(rank, process id) of the one to be killed; nothing while it has not been started."""
        if ranks == 0:
            return 0, job.pid
        processes = program.ranks_of(job)
        return dice.choice(sorted(processes.items())) if len(processes) == ranks else None

    def kill_once(self, run_name, ranks, dice):
        """True if the job had ended before it was its turn."""
        job = program.start(self.options(run_name, "--resume", "--cut-every", dice.randint(1, 5)),
                            ranks)
        time.sleep(dice.uniform(0.2, 2.5))
        chosen = self.victim(job, ranks, dice)
        since = time.monotonic()
        if chosen is not None and job.poll() is None:
            try:
                os.kill(chosen[1], signal.SIGKILL)
            except ProcessLookupError:
                chosen = None
        end = program.finish(job, since, within=30)
        if end.code == 0:
            return True
        needed, there = files_of_named_cut(self.folder / run_name)
        self.assertEqual(there, needed, "run.json names a cut whose files are not there")
        if ranks == 0:
            self.assertEqual(end.code, -signal.SIGKILL, end.output)
        else:
            self.assertIsNotNone(chosen, end.output)
            self.assertRegex(end.output + end.stdout,
                             rf"rank {chosen[0]}\b.*(exited|signal)|lost.*rank {chosen[0]}\b")
        return False

    def kill_until_finished(self, seed, counts):
        self.succeed(self.options("unbroken"))
        expected = program.blocks(self.folder / "unbroken")
        dice = random.Random(seed)
        for attempt in range(6):
            if self.kill_once("killed", counts[attempt % len(counts)], dice):
                break
        else:
            self.succeed(self.options("killed", "--resume"), counts[0])
        self.assert_same_blocks(expected, "killed", f"seed {seed}")
        leftovers = [str(path) for path in (self.folder / "killed").rglob("*.tmp")]
        self.assertEqual(leftovers, [])

    def test_one_of_two_ranks_then_three(self):
        self.kill_until_finished(1, (2, 3))

    def test_one_of_three_ranks_then_one_then_two(self):
        self.kill_until_finished(2, (3, 0, 2))

    def test_while_the_best_epoch_is_chosen(self):
        self.also = ("--recipe", "lrquant-plus", "--set", "loss.balance=ema",
                     "--set", "train.keep_best=true")
        self.kill_until_finished(4, (2, 1, 3))

    def test_with_maps_and_learned_reflections(self):
        self.also = ("--recipe", "ruquant-lh", "--set", "rotation.steps=4")
        self.kill_until_finished(5, (2, 3))

    def test_a_plain_start(self):
        self.kill_until_finished(3, (0,))


if __name__ == "__main__":
    program.main()

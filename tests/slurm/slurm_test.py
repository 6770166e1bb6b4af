"""The job scripts under a real Slurm with two nodes: over both, requeued, and out of time."""
import json
import pathlib
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "launch"))

import cluster  # noqa: E402
import program  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


class SlurmTest(program.ProgramTest):
    """Each test submits jobs to a cluster that all of them share."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="lrq-slurm-")
        cls.addClassCleanup(folder.cleanup)
        cls.slurm = cluster.Cluster(folder.name)
        cls.enterClassContext(cls.slurm)

    def setUp(self):
        super().setUp()
        self.site = self.folder / "site.env"
        self.set_site("mpirun")

    def set_site(self, launcher):
        self.site.write_text(f"LRQ_PROGRAM={program.command([])[0]}\nLRQ_LAUNCHER={launcher}\n",
                             encoding="utf-8")

    def submit(self, script, log, *options, slurm=()):
        """Two ranks on two nodes."""
        return self.slurm.submit("--nodes", 2, "--ntasks-per-node", 1, "--output",
                                 self.folder / log, *slurm, ROOT / "slurm" / script, *options,
                                 LRQ_HOME=ROOT, LRQ_SITE_ENV=self.site,
                                 OMPI_ALLOW_RUN_AS_ROOT=1, OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)

    def options(self, run_name, epochs):
        return self.calibrate(run_name, "--wbits", 4, "--abits", 6, "--wave", 2, "--epochs", epochs)

    def submit_calibration(self, run_name, epochs, slurm=()):
        return self.submit("calibrate.sbatch", f"{run_name}.log",
                           *self.options(run_name, epochs)[1:], slurm=slurm)

    def unbroken(self, epochs):
        end = program.run(self.options("unbroken", epochs), within=600)
        self.assertEqual(end.code, 0, end.output)
        return program.blocks(self.folder / "unbroken")

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def assert_done(self, facts, name):
        self.assertEqual((facts["JobState"], facts["ExitCode"]), ("COMPLETED", "0:0"),
                         self.log(name))

    def test_on_two_nodes_by_either_launcher(self):
        expected = self.unbroken(4)
        for launcher in ("mpirun", "srun"):
            self.set_site(launcher)
            job = self.submit_calibration(launcher, 4)
            facts = self.slurm.wait(job, 60)
            self.assert_done(facts, launcher)
            self.assertEqual(facts["NumNodes"], "2")
            self.assertIn("2 ranks, 1 threads each", self.log(launcher))
            self.assert_same_blocks(expected, launcher)
        job = self.submit("eval.sbatch", "eval.log", "--run", self.folder / "srun", "--ppl",
                          self.calib, "--seqlen", 256, "--json", self.folder / "eval.json")
        self.assert_done(self.slurm.wait(job, 60), "eval")
        alone = self.folder / "alone.json"
        self.succeed(["eval", "--run", self.folder / "unbroken", "--ppl", self.calib, "--seqlen", 256,
                      "--json", alone])
        self.assertEqual(json.loads((self.folder / "eval.json").read_text())["ppl"],
                         json.loads(alone.read_text())["ppl"])

    def test_requeued_in_the_middle(self):
        epochs = 500
        expected = self.unbroken(epochs)
        job = self.submit_calibration("requeued", epochs)
        cluster.until(lambda: "snapshots" in [p.name for p in (self.folder / "requeued").glob("*")],
                      60, "a first cut")
        time.sleep(2)
        self.slurm.ask("scontrol", "requeue", str(job))
        facts = self.slurm.wait(job, 300)
        self.assert_done(facts, "requeued")
        self.assertEqual(facts["Restarts"], "1")
        self.assert_same_blocks(expected, "requeued")

    def test_out_of_time_twice(self):
        # Slurm sends the signal up to a minute early, so a start may have but 20 s of its minute.
        epochs = self.epochs_for(seconds=110)
        expected = self.unbroken(epochs)
        for launcher in ("mpirun", "srun"):
            with self.subTest(launcher):
                self.set_site(launcher)
                job = self.submit_calibration(launcher, epochs,
                                              slurm=("--time", 1, "--signal", "B:USR1@20"))
                facts = self.slurm.wait(job, 900)
                self.assert_done(facts, launcher)
                self.assertGreaterEqual(int(facts["Restarts"]), 2, self.log(launcher))
                self.assertIn("out of time after a cut", self.log(launcher))
                self.assertNotIn("no new cut was made", self.log(launcher))
                self.assert_same_blocks(expected, launcher)

    def epochs_for(self, seconds):
        """So many that two ranks take about so long here."""
        probe = 200
        end = program.run(self.options("probe", probe), ranks=2, within=600)
        self.assertEqual(end.code, 0, end.output)
        return int(probe * seconds / end.seconds)


if __name__ == "__main__":
    program.main()

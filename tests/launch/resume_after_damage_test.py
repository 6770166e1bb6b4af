"""A run whose files were damaged ends in the bytes of an unbroken one, or is refused clearly."""
import json
import os
import shutil
import time

import program

# Learned reflections: such a run has every kind of file that there is.
LEARNED = ("--recipe", "ruquant-lh", "--set", "rotation.steps=2", "--set", "smoothing.scale=learned",
           "--wbits", "4", "--abits", "6", "--wave", "2", "--batch-size", "2")
EPOCHS_TO_DAMAGE = 8


class DamagedTest(program.ProgramTest):
    """A missing or torn file is work to redo, or a clear refusal: never a wrong result."""

    KINDS_WHEN_FINISHED = ("blocks/block-001.safetensors", "stats/block-003.safetensors",
                           "stats/maps-003.safetensors", "activations/fp-003.*.h5", "run.json",
                           "tokens.h5")
    KINDS = ("blocks/block-000.safetensors", "blocks/block-001.safetensors",
             "snapshots/*/*/block-002.safetensors", "snapshots/*/*/block-003.safetensors",
             "stats/block-003.safetensors", "stats/maps-003.safetensors",
             "activations/fp-000.*.h5", "activations/fp-003.*.h5", "activations/q-002.*.h5", "run.json", "tokens.h5", "activations.h5", "metrics.jsonl")

    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("LRQ_DAMAGE_SEED", "1"))

    def options(self, run_name, *more):
        return self.calibrate(run_name, *LEARNED, "--epochs", EPOCHS_TO_DAMAGE, *more)

    def interrupt_in_second_wave(self):
        """A run directory with a cut inside wave 1."""
        for _ in range(10):
            shutil.rmtree(self.folder / "cut", ignore_errors=True)
            job = program.start(self.options("cut", "--cut-every", "1"))
            while job.poll() is None:
                cut = self.newest_cut("cut")
                if cut and cut["wave"] == 1 and cut["step"] > 2:
                    break
                time.sleep(0.002)
            job.kill()
            program.finish(job)
            cut = self.newest_cut("cut")
            there = list((self.folder / "cut").glob("snapshots/wave-01/step-*/block-00[23].*"))
            if cut and cut["wave"] == 1 and cut["step"] > 2 and len(there) >= 2:
                return
        self.fail("the run was always through wave 1 before it could be killed")

    def newest_cut(self, run_name):
        path = self.folder / run_name / "run.json"
        return json.loads(path.read_text(encoding="utf-8"))["cut"] if path.exists() else None

    def damage(self, path, how):
        if how == "deleted":
            path.unlink()
        elif how == "truncated":
            program.truncate(path)
        else:
            program.flip_one_byte(path, self.seed)

    def assert_recovers(self, source, kind, how, expected):
        note = f"{kind} {how}, seed {self.seed}"
        shutil.copytree(self.folder / source, self.folder / "damaged")
        found = sorted((self.folder / "damaged").glob(kind))
        if not found:
            return shutil.rmtree(self.folder / "damaged")
        self.damage(found[0], how)
        end = program.run(self.options("damaged", "--resume"))
        if kind == "run.json":
            # Without it nobody knows what the other files are; torn, it is not believed.
            self.assert_refused(end, 2 if how == "deleted" else 3, "run.json", note=note)
        else:
            self.assertEqual(end.code, 0, f"{note}\n{end.output}")
            self.assert_same_blocks(expected, "damaged", note)
            self.assertTrue(json.loads((self.folder / "damaged/run.json").read_text())["finished"])
        return shutil.rmtree(self.folder / "damaged")

    def assert_all_recover(self, source, kinds, ways):
        self.succeed(self.options("unbroken"))
        expected = program.blocks(self.folder / "unbroken")
        for kind in kinds:
            for how in ways:
                with self.subTest(kind=kind, how=how):
                    try:
                        self.assert_recovers(source, kind, how, expected)
                    finally:
                        shutil.rmtree(self.folder / "damaged", ignore_errors=True)

    def test_an_interrupted_run(self):
        self.interrupt_in_second_wave()
        for kind in self.KINDS:
            self.assertTrue(list((self.folder / "cut").glob(kind)), kind)
        self.assert_all_recover("cut", self.KINDS,
                                ("deleted", "truncated", "flipped"))

    def test_a_finished_run(self):
        self.assert_all_recover("unbroken", self.KINDS_WHEN_FINISHED, ("deleted", "flipped"))

    def test_inputs_of_a_wave_that_is_left_do_not_stay(self):
        # Killed behind the sealing of the next wave's inputs, before the old ones were removed.
        self.interrupt_in_second_wave()
        kept = {path.name: path.read_bytes() for path in
                (self.folder / "cut" / "activations").glob("q-002.*.h5")}
        self.assertNotEqual(kept, {})
        job = program.start(self.options("cut", "--cut-every", "1", "--resume"))
        while job.poll() is None and (self.newest_cut("cut") or {}).get("wave") != 2:
            time.sleep(0.002)
        job.kill()
        program.finish(job)
        for name, content in kept.items():
            (self.folder / "cut" / "activations" / name).write_bytes(content)
        self.succeed(self.options("cut", "--resume"))
        left = [path.name for path in (self.folder / "cut" / "activations").glob("q-*")]
        self.assertEqual(left, [])

    def test_a_torn_last_line_of_the_metrics_hides_no_later_line(self):
        self.interrupt_in_second_wave()
        path = self.folder / "cut" / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(lines)[:-20], encoding="utf-8")
        self.succeed(self.options("cut", "--resume"))
        whole = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                whole.append(json.loads(line))
            except ValueError:
                self.assertTrue(lines[-1].startswith(line), f"a later line was torn: {line}")
        learned = {(line["block"], line["epoch"]) for line in whole if line["event"] == "epoch"}
        self.assertTrue({(4, epoch) for epoch in range(1, EPOCHS_TO_DAMAGE + 1)} <= learned)


if __name__ == "__main__":
    program.main()

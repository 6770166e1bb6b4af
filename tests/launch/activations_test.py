"""h5py reads the activations of a run through its master file.  Needs h5py and numpy."""
import json
import math
import struct
import sys

import program

try:
    import h5py
    import numpy
except ImportError as missing:
    print(f"skipped: {missing}; run launch/setup, or give a Python with h5py and numpy")
    sys.exit(77)


def embedding_rows():
    """model.embed_tokens.weight as the checkpoint holds it."""
    content = (program.MODEL / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    entry = json.loads(content[8:8 + length])["model.embed_tokens.weight"]
    assert entry["dtype"] == "F32", entry
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    return numpy.frombuffer(content[begin:end], dtype="<f4").reshape(entry["shape"])


class ActivationsTest(program.ProgramTest):
    def run_on_three_ranks(self, *more):
        self.succeed(self.calibrate("run", "--recipe", "rtn", "--wbits", "4", *more), 3)
        return self.folder / "run"

    def expected_embedding(self):
        ids = numpy.array(program.lines_of_ids()[:4])[:, :32]
        return ids, embedding_rows()[ids]

    def test_the_master_shows_every_boundary_and_the_embedding(self):
        run = self.run_on_three_ranks()
        ids, expected = self.expected_embedding()
        shards = {path.name.split(".")[1] for path in (run / "activations").glob("*.h5")}
        self.assertEqual(shards, {"rank-0", "rank-1", "rank-2"})
        with h5py.File(run / "tokens.h5") as tokens:
            numpy.testing.assert_array_equal(tokens["tokens"][:], ids)
        with h5py.File(run / "activations.h5") as master:
            self.assertEqual(sorted(master["fp"]), [f"{k:03}" for k in range(6)])
            for name, dataset in master["fp"].items():
                self.assertTrue(dataset.is_virtual, name)
                self.assertEqual(dataset.shape, (4, 32, 64))
                self.assertEqual(dataset.dtype, numpy.dtype("<f4"))
                self.assertTrue(numpy.isfinite(dataset[:]).all(), name)
            numpy.testing.assert_array_equal(master["fp/000"][:], expected)

    def test_a_moved_run_can_still_be_read(self):
        run = self.run_on_three_ranks()
        moved = run.rename(self.folder / "elsewhere")
        with h5py.File(moved / "activations.h5") as master:
            numpy.testing.assert_array_equal(master["fp/000"][:], self.expected_embedding()[1])

    def test_bfloat16_reads_as_rounded_numbers(self):
        run = self.run_on_three_ranks("--dtype", "bfloat16")
        _, rows = self.expected_embedding()
        bits = rows.view(numpy.uint32).astype(numpy.uint64)
        nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(numpy.uint32)
        with h5py.File(run / "activations.h5") as master:
            found = master["fp/000"][:].astype(numpy.float32)
        numpy.testing.assert_array_equal(found, nearest.view(numpy.float32))

    def test_hidden_states_are_those_of_transformers(self):
        path = program.DATA / "reference" / "logits-stories260k.json"
        case = json.loads(path.read_text(encoding="utf-8"))["cases"][0]
        program.write_npy(self.calib, [case["ids"]])
        self.succeed(self.calibrate("run", "--recipe", "rtn", "--wbits", "4", samples=1,
                                    tokens=len(case["ids"])), 2)
        with h5py.File(self.folder / "run" / "activations.h5") as master:
            for k, expected in enumerate(case["hidden_state_rms_per_layer"][:5]):
                hidden = master[f"fp/{k:03}"][0].astype(numpy.float64)
                found = math.sqrt((hidden ** 2).mean())
                self.assertAlmostEqual(found / expected, 1.0, delta=1e-4, msg=f"input of block {k}")


if __name__ == "__main__":
    program.main()

"""Run the real lrq-dist, alone or under mpirun, and look at what it leaves behind.

Every test of this folder is a unittest that takes --program FILE [--mpiexec FILE] before the
arguments of unittest, and works in a temporary folder of its own.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
MODEL = DATA / "stories260k"
TEXT = DATA / "stories260k-text" / "eval.jsonl"
LIMIT_S = 120.0  # what takes longer hangs, on a busy machine too

# The CPU is what is tested, also where there are GPUs, which `--device auto` would take.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

_chosen = argparse.Namespace(program="", mpiexec="mpirun")


@dataclasses.dataclass
class End:
    """How a job ended; `output` is its error stream, where every message goes."""
    code: int
    output: str
    stdout: str
    seconds: float


def command(arguments, ranks=0):
    """The command line; ranks = 0 is a plain start without mpirun."""
    launcher = [_chosen.mpiexec, "-n", str(ranks)] if ranks else []
    return launcher + [_chosen.program] + [str(argument) for argument in arguments]


def start(arguments, ranks=0):
    return subprocess.Popen(command(arguments, ranks), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True)


def finish(job, since=None, within=LIMIT_S):
    """Wait for a job; one that is still there after `within` seconds is a failed test."""
    since = time.monotonic() if since is None else since
    try:
        out, err = job.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        job.terminate()  # mpirun ends its ranks
        try:
            out, err = job.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            out, err = job.communicate()
        raise AssertionError(f"still running after {within} s: {job.args}\n"
                             f"{err.decode(errors='replace')}") from None
    return End(job.returncode, err.decode(errors="replace"), out.decode(errors="replace"),
               time.monotonic() - since)


def run(arguments, ranks=0, within=LIMIT_S):
    return finish(start(arguments, ranks), within=within)


def ranks_of(job):
    """{rank: process id} of the ranks that mpirun has started so far."""
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent != job.pid or "lrq-dist" not in os.readlink(folder / "exe"):
                continue
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError, ValueError):
            continue  # it has just ended
        for entry in environment:
            if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                found[int(entry.split(b"=")[1])] = int(folder.name)
    return found


def blocks(run_folder):
    """{file name: bytes} of the finished blocks."""
    folder = pathlib.Path(run_folder) / "blocks"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def lines_of_ids():
    with open(TEXT, encoding="utf-8") as lines:
        return [json.loads(line)["ids"] for line in lines]


def write_npy(path, ids):
    """int32 ids, a list or a list of equally long lists, as numpy's format 1.0 has them."""
    two_dimensional = isinstance(ids[0], list)
    rows = ids if two_dimensional else [ids]
    shape = (len(rows), len(rows[0])) if two_dimensional else (len(ids),)
    header = repr({"descr": "<i4", "fortran_order": False, "shape": shape})
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    data = b"".join(struct.pack(f"<{len(row)}i", *row) for row in rows)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) +
                     header.encode("ascii") + data)


def flip_one_byte(path, seed=0):
    content = bytearray(path.read_bytes())
    place = random.Random(f"{seed} {path.name}").randrange(len(content))
    content[place] ^= 0x20
    path.write_bytes(bytes(content))


def truncate(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


class ProgramTest(unittest.TestCase):
    """A temporary folder with calib.npy in it, and one way to ask for a small calibration."""

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="lrq-launch-")
        self.folder = pathlib.Path(self._folder.name)
        self.addCleanup(self._folder.cleanup)
        self.calib = self.folder / "calib.npy"
        write_npy(self.calib, lines_of_ids()[:8])

    def calibrate(self, run_name, *more, samples=4, tokens=32, log="warning"):
        return ["calibrate", "--model", MODEL, "--calib", self.calib, "--run",
                self.folder / run_name, "--nsamples", samples, "--seqlen", tokens,
                "--log-level", log, *more]

    def succeed(self, arguments, ranks=0):
        end = run(arguments, ranks)
        self.assertEqual(end.code, 0, f"{command(arguments, ranks)}\n{end.output}")
        return end

    def assert_same_blocks(self, expected, run_name, note=""):
        found = blocks(self.folder / run_name)
        self.assertEqual(sorted(found), sorted(expected), note)
        differing = [name for name in expected if found[name] != expected[name]]
        self.assertEqual(differing, [], note)

    def assert_refused(self, end, code, *texts, note=""):
        """Ended with this code, and with a message of three parts that holds these texts."""
        told = f"{note}\n{end.output}"
        self.assertEqual(end.code, code, told)
        for text in ("lrq-dist: ", "  where: ", "  fix:   ", *texts):
            self.assertIn(text, end.output, told)
        self.assertNotIn("core dumped", end.output, told)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--mpiexec", default="mpirun")
    options, rest = parser.parse_known_args(namespace=_chosen)
    options.program = os.path.abspath(options.program)
    os.environ.update(OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)

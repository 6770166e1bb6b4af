#!/usr/bin/env python3
"""Check the launch scripts as far as that needs neither network nor root.

Usage: launch_scripts_test.py ROOT
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 else pathlib.Path(".")
SCRIPTS = ("setup", "test", "demo", "bench")


def run(*command, **environment):
    return subprocess.run([str(part) for part in command], text=True, capture_output=True,
                          env={**os.environ, **environment}, check=False)


class LaunchScriptsTest(unittest.TestCase):
    def test_every_script_is_executable_and_parses(self):
        for name in [f"launch/{script}" for script in SCRIPTS] + [".ci/run"]:
            self.assertTrue(os.access(ROOT / name, os.X_OK), name)
            self.assertEqual(run("bash", "-n", ROOT / name).returncode, 0, name)

    def test_help_is_told_without_doing_anything(self):
        with tempfile.TemporaryDirectory() as folder:
            for script in SCRIPTS:
                done = run(ROOT / "launch" / script, "--help", XDG_CACHE_HOME=folder)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"launch/{script}", done.stdout)
            self.assertEqual(os.listdir(folder), [])

    def test_an_unknown_option_is_refused(self):
        done = run(ROOT / "launch/setup", "--modle")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unknown option '--modle'\n  where: the command line\n  fix:   ", done.stderr)

    def test_a_torch_folder_without_torch_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run(ROOT / "launch/setup", "--no-model", "--torch-root", folder,
                       XDG_CACHE_HOME=folder)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("no PyTorch there", done.stderr)
            self.assertFalse(os.path.exists(f"{folder}/lrq-dist/torch-root"))

    def test_the_pinned_list_pins_every_package(self):
        for name in ("requirements.txt", "requirements-all.txt"):
            lines = (ROOT / "launch" / name).read_text(encoding="utf-8").splitlines()
            for line in lines:
                self.assertTrue(line.startswith("#") or "==" in line, line)


class DemoTableTest(unittest.TestCase):
    def test_the_table_has_a_row_per_recipe(self):
        with tempfile.TemporaryDirectory() as folder:
            def write(name, value):
                pathlib.Path(folder, name).write_text(json.dumps(value), encoding="utf-8")

            for i, name in enumerate(("full", "rtn", "lae-start", "lrquant")):
                write(f"{name}.eval.json", {"ppl": {"test.joined": 30.0 + i}, "seconds": 10.25,
                                            "peak_memory_bytes": [2**30, 2**29]})
                if i > 0:
                    write(f"{name}.calibrate.json", {"seconds": i * 100.0,
                                                     "peak_memory_bytes": [2**29, i * 2**30]})
            done = run(sys.executable, ROOT / "launch/demo_table.py", folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
        self.assertEqual(cells[1], ["full precision", "30.0000", "-", "10.2", "1024 MiB"])
        self.assertEqual(cells[4], ["LRQuant, 5 epochs", "33.0000", "300.0", "10.2", "3072 MiB"])
        self.assertEqual(len({len(line) for line in rows}), 1)


if __name__ == "__main__":
    unittest.main()

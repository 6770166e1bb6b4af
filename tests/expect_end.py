"""Run a command and check how it ends: exit code, a text in its output, and the time it took.

usage: expect_end.py [--exit-code N] [--text TEXT]... [--within SECONDS] -- command ...
Without --exit-code any code but 0 will do.
"""
import argparse
import os
import signal
import subprocess
import sys
import time


def main() -> int:
    split = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--exit-code", type=int)
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--within", type=float, default=60.0)
    want = parser.parse_args(sys.argv[1:split])
    start = time.monotonic()
    job = subprocess.Popen(sys.argv[split + 1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           start_new_session=True)
    try:
        output = job.communicate(timeout=want.within)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        print(job.communicate()[0].decode(errors="replace"))
        print(f"expect_end: still running after {want.within} s")
        return 1
    print(output)
    wrong = [f"the output lacks '{text}'" for text in want.text if text not in output]
    if want.exit_code is None and job.returncode == 0:
        wrong.append("exit code 0, expected a failure")
    if want.exit_code is not None and job.returncode != want.exit_code:
        wrong.append(f"exit code {job.returncode}, expected {want.exit_code}")
    print(f"expect_end: exit code {job.returncode} after {time.monotonic() - start:.1f} s")
    for line in wrong:
        print(f"expect_end: {line}")
    return 1 if wrong else 0


sys.exit(main())

#!/usr/bin/env python3
"""Calibrate one wave on 1 and on 2 ranks, in turn, and compare the times; see bench/README.md."""
import argparse
import filecmp
import math
import shutil
import statistics

import rows
import runs

SAMPLES, TOKENS, WAVE, EPOCHS = 16, 256, 8, 5


def calibrate(blocks, ranks, folder):
    """One calibration, one thread a rank; returns its folder and its --json result."""
    name = f"{ranks}-rank" + ("s" if ranks > 1 else "")
    shutil.rmtree(folder / name, ignore_errors=True)
    result = folder / f"{name}.json"
    runs.run_logged(
        ["mpirun", "-n", ranks, runs.PROGRAM, "calibrate", "--model", runs.MODEL,
         "--calib", runs.TEXTS / "valid.joined.txt", "--calib-stride", 2000,
         "--nsamples", SAMPLES, "--seqlen", TOKENS, "--recipe", "lrquant",
         "--wbits", 6, "--abits", 6, "--epochs", EPOCHS, "--wave", WAVE,
         "--hidden-layer-num", blocks, "--dtype", "float32", "--threads", 1,
         "--run", folder / name, "--json", result],
        folder / f"{name}.log")
    return folder / name, runs.read_json(result)


def blocks_are_equal(one, two):
    """True if both runs wrote the same block files, byte for byte."""
    names = [sorted(path.name for path in (run / "blocks").iterdir()) for run in (one, two)]
    if not names[0] or names[0] != names[1]:
        return False
    return filecmp.cmpfiles(one / "blocks", two / "blocks", names[0], shallow=False)[0] == names[0]


def summary_of(result):
    """What of a calibration's --json counts here."""
    waited = sum(result["waited_seconds"]) / (result["ranks"] * result["seconds"])
    return {"learning_seconds": result["learning_seconds"], "seconds": result["seconds"],
            "waited_seconds": result["waited_seconds"], "waiting_share": waited}


def run_pair(blocks, folder):
    (one, one_result), (two, two_result) = (calibrate(blocks, ranks, folder) for ranks in (1, 2))
    return {"one_rank": summary_of(one_result), "two_ranks": summary_of(two_result),
            "learning_ratio": one_result["learning_seconds"] / two_result["learning_seconds"],
            "ratio": one_result["seconds"] / two_result["seconds"],
            "blocks_equal": blocks_are_equal(one, two)}


def best_ratio(blocks):
    """Learning on 1 rank by learning on 2, if a block step always took the same time."""
    steps = EPOCHS * SAMPLES
    waves = [min(WAVE, blocks - first) for first in range(0, blocks, WAVE)]
    two = sum((steps + min(width, 2) - 1) * math.ceil(width / 2) for width in waves)
    return steps * blocks / two


def format_pair(number, pair):
    one, two = pair["one_rank"], pair["two_ranks"]
    return (f"{number:>6} {one['learning_seconds']:>11.2f} {two['learning_seconds']:>11.2f} "
            f"{pair['learning_ratio']:>6.3f} {one['seconds']:>10.2f} {two['seconds']:>10.2f} "
            f"{pair['ratio']:>6.3f} {two['waiting_share']:>7.1%} "
            f"{'equal' if pair['blocks_equal'] else 'DIFFER':>7}")


def work(options):
    folder = runs.FOLDER / "scaling"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"SmolLM2-135M, first {options.blocks} blocks, W6A6 lrquant, wave {WAVE}, "
          f"{SAMPLES} x {TOKENS} tokens, {EPOCHS} epochs, one thread a rank\n"
          f"{'':>6} {'learning [s]':>30} {'whole run [s]':>28} {'waiting':>7} {'block':>7}\n"
          f"{'pair':>6} {'1 rank':>11} {'2 ranks':>11} {'ratio':>6} {'1 rank':>10} {'2 ranks':>10} "
          f"{'ratio':>6} {'of 2':>7} {'files':>7}", flush=True)
    pairs = []
    for number in range(1, options.pairs + 1):
        pairs.append(run_pair(options.blocks, folder))
        print(format_pair(number, pairs[-1]), flush=True)
    result = {"blocks": options.blocks, "wave": WAVE, "pairs": pairs,
              "median_learning_ratio": statistics.median(p["learning_ratio"] for p in pairs),
              "median_ratio": statistics.median(p["ratio"] for p in pairs),
              "median_waiting_share": statistics.median(
                  p["two_ranks"]["waiting_share"] for p in pairs),
              "best_learning_ratio": best_ratio(options.blocks),
              "blocks_equal": all(p["blocks_equal"] for p in pairs)}
    print(f"median learning ratio {result['median_learning_ratio']:.3f} "
          f"(at best {result['best_learning_ratio']:.3f}), whole run {result['median_ratio']:.3f}, "
          f"waiting {result['median_waiting_share']:.1%}")
    if options.json:
        runs.write_json(options.json, result)
    if not result["blocks_equal"]:
        raise runs.Failed("the block files of 1 and of 2 ranks differ, and must be equal", folder,
                          "compare the last pair's blocks/ there; report it as a bug")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="launch/bench scaling", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the result to this file")
    parser.add_argument("--blocks", type=rows.at_least_one, default=8, metavar="N",
                        help="first so many blocks of the model, 2 or more (default %(default)s)")
    parser.add_argument("--pairs", type=rows.at_least_one, default=3, metavar="N",
                        help="runs on 1 rank and on 2, in turn (default %(default)s)")
    options = parser.parse_args()
    if options.blocks < 2:
        parser.error("--blocks: 2 ranks need 2 blocks or more")
    runs.run_main("scaling", lambda: work(options))


if __name__ == "__main__":
    main()

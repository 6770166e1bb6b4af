#!/usr/bin/env python3
"""One calibration on more ranks and under every option that must not change its bits: times, waiting
measured and simulated, and whether the block files are equal; see bench/README.md."""
import argparse
import shutil
import statistics

import rows
import runs

SAMPLES, TOKENS, EPOCHS = 16, 256, 5
WAVE, REPLICAS = ("--wave", 8), ("--wave", 1, "--batch-size", 4)
# What learns the same: a group's runs are compared with its first.  Name, ranks, own options.
GROUPS = (
    ("waves of 8", WAVE,
     (("1 rank", 1, ()),
      ("2 ranks", 2, ()),
      ("4 ranks", 4, ()),
      ("2 ranks, --targets memory", 2, ("--targets", "memory")),
      ("2 ranks, --targets recompute", 2, ("--targets", "recompute")),
      ("2 ranks, --resident-blocks 1", 2, ("--resident-blocks", 1)))),
    ("waves of 1, batch 4", REPLICAS,
     (("1 rank", 1, ()),
      ("2 ranks, 2 replicas", 2, ("--replicas", 2)),
      ("4 ranks, 4 replicas", 4, ("--replicas", 4)))))


def calibrate(number, name, ranks, options, settings, folder):
    """One calibration, one thread a rank; returns its folder and what of it counts here."""
    run = folder / f"{number}-{name.replace(', ', '-').replace(' ', '-').replace('--', '-')}"
    shutil.rmtree(run, ignore_errors=True)
    result, told, log = (run.with_suffix(end) for end in (".json", ".report.json", ".log"))
    runs.run_logged(
        ["mpirun", "-n", ranks, runs.PROGRAM, "calibrate", "--model", runs.MODEL,
         "--calib", runs.TEXTS / "valid.joined.txt", "--calib-stride", 2000,
         "--nsamples", SAMPLES, "--seqlen", TOKENS, "--recipe", "lrquant",
         "--wbits", 6, "--abits", 6, "--epochs", settings.epochs,
         "--hidden-layer-num", settings.blocks, "--dtype", "float32", "--threads", 1,
         *options, "--run", run, "--json", result], log)
    runs.run_logged([runs.PROGRAM, "report", "--run", run, "--out", run.with_suffix(".html"),
                     "--json", told], log)
    shutil.rmtree(run / "activations")
    found = runs.read_json(result)
    # Replicas beyond a stage's first have no measured share of their own.
    used = [rank for rank in runs.read_json(told)["utilisation"] if rank["measured"] is not None]
    shares = {which: 1.0 - statistics.mean(rank[which] for rank in used)
              for which in ("measured", "simulated")}
    return run, {"learning_seconds": found["learning_seconds"], "seconds": found["seconds"],
                 "waiting": shares["measured"], "waiting_simulated": shares["simulated"]}


def medians(found):
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def run_group(number, group, settings, folder):
    """Every run of a group, so often in turn; returns by name: medians, ratios and equality."""
    _, common, members = group
    found = {name: [] for name, _, _ in members}
    equal = dict.fromkeys(found, True)
    for repetition in range(settings.repeat):
        first = None
        for name, ranks, own in members:
            run, result = calibrate(number, name, ranks, (*common, *own), settings, folder)
            first = first or run
            found[name].append(result)
            equal[name] = equal[name] and runs.blocks_are_equal(first, run)
            runs.say(f"{group[0]}, {name}, {repetition + 1} of {settings.repeat}: {result}")
    result = {name: medians(each) | {"blocks_equal": equal[name]} for name, each in found.items()}
    alone = found[members[0][0]]
    for name, each in found.items():
        for key in ("learning_seconds", "seconds"):
            result[name][f"{key}_ratio"] = statistics.median(
                one[key] / other[key] for one, other in zip(alone, each))
    return result


def drawn(result, settings):
    lines = [rows.table_line(("", "learning [s]", "1 rank by it", "whole run [s]", "1 rank by it",
                              "waiting, measured", "simulated", "block files")),
             "|---|--:|--:|--:|--:|--:|--:|---|"]
    for title, members in result.items():
        for name, row in members.items():
            lines.append(rows.table_line((
                f"{title}: {name}", f"{row['learning_seconds']:.1f}",
                f"{row['learning_seconds_ratio']:.3f}", f"{row['seconds']:.1f}",
                f"{row['seconds_ratio']:.3f}", f"{row['waiting']:.1%}",
                f"{row['waiting_simulated']:.1%}", "equal" if row["blocks_equal"] else "DIFFER")))
    return "\n".join(lines) + (
        f"\n\nSmolLM2-135M, first {settings.blocks} blocks, W6A6 lrquant, {SAMPLES} samples of "
        f"{TOKENS} tokens, {settings.epochs} epochs, one thread a rank; medians of "
        f"{settings.repeat}, ratios within one round. Waiting is of learning, mean of the "
        "ranks.\n")


def work(options):
    folder = runs.FOLDER / "scaling"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = {group[0]: run_group(number, group, options, folder)
              for number, group in enumerate(GROUPS) if group[0] in options.groups}
    if options.json:
        runs.write_json(options.json, result)
    differ = [f"{title}: {name}" for title, members in result.items()
              for name, row in members.items() if not row["blocks_equal"]]
    rows.finish(drawn(result, options), options.out, [], 0, folder)
    if differ:
        raise runs.Failed(f"block files differ and must be equal: {'; '.join(differ)}", folder,
                          "compare the last round's blocks/ there; report it as a bug")
    return 0


def main():
    names = [group[0] for group in GROUPS]
    parser = argparse.ArgumentParser(prog="launch/bench scaling", description=__doc__)
    parser.add_argument("--out", metavar="FILE", help="write the table to this file too")
    parser.add_argument("--json", metavar="FILE", help="write the result to this file")
    parser.add_argument("--groups", nargs="+", choices=names, default=names, metavar="G",
                        help=f"of '{names[0]}' and '{names[1]}' (default both)")
    rows.add_number(parser, "--blocks", 8, "first so many blocks of the model")
    rows.add_number(parser, "--epochs", EPOCHS, "passes over the samples")
    rows.add_number(parser, "--repeat", 3, "rounds of all runs, in turn")
    options = parser.parse_args()
    if options.blocks < 4:
        parser.error("--blocks: 4 ranks need 4 blocks or more")
    runs.run_main("scaling", lambda: work(options))


if __name__ == "__main__":
    main()

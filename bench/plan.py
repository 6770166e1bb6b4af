#!/usr/bin/env python3
"""Compare what lrq-dist plan says with what calibrate takes: memory and time; see bench/README.md."""
import argparse
import pathlib
import shutil
import statistics

import rows
import runs

BLOCKS = 8
COMMON = ["--nsamples", 16, "--seqlen", 256, "--epochs", 2]

# Name, ranks, and what calibrate and plan are told alike; later options win.
CONFIGURATIONS = (
    ("wave-8", 1, ["--recipe", "lrquant-w6a6", "--wave", 8]),
    ("wave-8-2-ranks", 2, ["--recipe", "lrquant-w6a6", "--wave", 8]),
    ("long-samples", 1, ["--recipe", "lrquant-w6a6", "--wave", 2, "--nsamples", 8,
                         "--seqlen", 1024]),
    ("plus-groups-2-ranks", 2, ["--recipe", "lrquant-plus-w4a16-g64", "--wave", 4]),
    ("one-resident-block", 1, ["--recipe", "lrquant-w6a6", "--wave", 8, "--resident-blocks", 1]),
    ("bfloat16-batch-4", 1, ["--recipe", "lrquant-w4a4", "--wave", 4, "--batch-size", 4,
                             "--dtype", "bfloat16"]),
)


def options_of(own):
    """The common options with a configuration's own in their place."""
    merged = {}
    for name, value in zip(*[iter(COMMON + own)] * 2):
        merged[name] = value
    return [part for pair in merged.items() for part in pair]


class Measured(rows.Row):
    """A configuration, calibrated several times."""

    def __init__(self, name, ranks, own, repeat, folder):
        self.ranks, self.options, self.repeat = ranks, options_of(own), repeat
        super().__init__(name, {"ranks": ranks, "options": [str(part) for part in self.options],
                                "repeat": repeat, "blocks": BLOCKS}, folder)

    def make(self):
        results = []
        for number in range(self.repeat):
            run = self.run.with_name(f"{self.name}-{number + 1}")
            shutil.rmtree(run, ignore_errors=True)
            result = run.with_suffix(".result.json")
            runs.run_logged(
                ["mpirun", "-n", self.ranks, runs.PROGRAM, "calibrate", "--model", runs.MODEL,
                 "--calib", runs.TEXTS / "valid.joined.txt", "--calib-stride", 2000,
                 "--hidden-layer-num", BLOCKS, "--threads", 1, *self.options,
                 "--run", run, "--json", result], self.log)
            results.append(runs.read_json(result))
        self.keep({"seconds": [result["seconds"] for result in results],
                   "peak": [max(peaks) for peaks in
                            zip(*(result["peak_memory_bytes"] for result in results))]})

    def planned(self, machine):
        result = self.run.with_suffix(".plan.json")
        runs.run_logged([runs.PROGRAM, "plan", "--model", runs.MODEL, "--ranks", self.ranks,
                         "--machine", machine, "--hidden-layer-num", BLOCKS, *self.options,
                         "--json", result], self.log)
        return runs.read_json(result)


class Probe(rows.Row):
    """The machine, measured by as many ranks at the same time."""

    def __init__(self, ranks, folder):
        super().__init__(f"probe-{ranks}", {"ranks": ranks}, folder)
        self.ranks = ranks

    def make(self):
        self.run.with_suffix(".machine").unlink(missing_ok=True)
        runs.run_logged(["mpirun", "-n", self.ranks, runs.PROGRAM, "plan", "--probe", "--json",
                         self.run.with_suffix(".machine")], self.log)
        self.keep(runs.read_json(self.run.with_suffix(".machine")))


def difference(planned, measured):
    return f"{planned / measured - 1:+.1%}"


def line_of(row, plan):
    """The row of the table, and how far apart plan and measurement are: memory, time."""
    measured = row.result()
    rank = max(range(row.ranks), key=lambda r: abs(
        plan["memory"][r]["needed"] / measured["peak"][r] - 1))
    peak, found = plan["memory"][rank]["needed"], measured["peak"][rank]
    seconds = statistics.median(measured["seconds"])
    cells = [row.name, str(row.ranks), f"{peak / 2**20:.0f}", f"{found / 2**20:.0f}",
             difference(peak, found), f"{plan['seconds']:.1f}", f"{seconds:.1f}",
             difference(plan["seconds"], seconds)]
    return rows.table_line(cells), abs(peak / found - 1), abs(plan["seconds"] / seconds - 1)


def page_of(made, probes):
    lines = [rows.table_line(["configuration", "ranks", "memory planned [MiB]", "measured", "",
                              "time planned [s]", "measured", ""]),
             "|---|--:|--:|--:|--:|--:|--:|--:|"]
    worst = [0.0, 0.0]
    for row in made:
        if row.result() is None or probes[row.ranks].result() is None:
            lines.append(rows.table_line([row.name, str(row.ranks), *["-"] * 6]))
            continue
        line, memory, time = line_of(row, row.planned(probes[row.ranks].run.with_suffix(".machine")))
        lines.append(line)
        worst = [max(worst[0], memory), max(worst[1], time)]
    return "\n".join(lines) + (
        f"\n\nSmolLM2-135M, first {BLOCKS} blocks, one thread a rank; the rank whose memory is "
        f"furthest from its plan, median times of {made[0].repeat}. Furthest apart: memory "
        f"{worst[0]:.1%}, time {worst[1]:.1%}.\n")


def work(options):
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = [c for c in CONFIGURATIONS if c[0] in options.configurations]
    made = [Measured(name, ranks, own, options.repeat, options.folder)
            for name, ranks, own in chosen]
    probes = {ranks: Probe(ranks, options.folder) for _, ranks, _ in chosen}
    failures = rows.make_missing([*probes.values(), *made], options)
    return rows.finish(page_of(made, probes), options.out, failures, len(probes) + len(made),
                       options.folder)


def main():
    names = [c[0] for c in CONFIGURATIONS]
    parser = argparse.ArgumentParser(prog="launch/bench plan", description=__doc__)
    parser.add_argument("--out", metavar="FILE", help="write the table to this file too")
    parser.add_argument("--configurations", nargs="+", choices=names, default=names, metavar="C",
                        help=f"of {', '.join(names)} (default all)")
    rows.add_number(parser, "--repeat", 3, "calibrations of each, of which the median time counts")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    parser.add_argument("--folder", type=pathlib.Path, default=runs.FOLDER / "plan", metavar="DIR",
                        help="run directories and results (default %(default)s)")
    options = parser.parse_args()
    options.jobs = 1  # the ranks of one run take all cores that a measurement may use
    runs.run_main("plan", lambda: work(options))


if __name__ == "__main__":
    main()

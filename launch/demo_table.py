#!/usr/bin/env python3
"""Print the demo's table from the JSON results in a folder.

Usage: demo_table.py DEMO_FOLDER     Needs nothing beyond Python itself.
"""
import json
import pathlib
import sys

ROWS = (("full", "full precision"), ("rtn", "round-to-nearest"),
        ("lae-start", "LAE start only"), ("lrquant", "LRQuant, 5 epochs"))
HEAD = ("W6A6, 2 ranks", "perplexity", "calibration [s]", "evaluation [s]", "peak memory / rank")


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def memory(*results):
    """Largest peak of any rank in any of the results."""
    peak = max(value for result in results for value in result["peak_memory_bytes"])
    return f"{peak / 2**20:.0f} MiB"


def row(folder, name, title):
    evaluation = load(folder / f"{name}.eval.json")
    (perplexity,) = evaluation["ppl"].values()
    calibration = folder / f"{name}.calibrate.json"
    results = [evaluation] + ([load(calibration)] if calibration.exists() else [])
    calibrated = f"{results[1]['seconds']:.1f}" if len(results) == 2 else "-"
    return (title, f"{perplexity:.4f}", calibrated, f"{evaluation['seconds']:.1f}",
            memory(*results))


def format_table(rows):
    """A table that reads well in a terminal and is Markdown too."""
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]

    def line(cells):
        first, *rest = cells
        return "| " + " | ".join([first.ljust(widths[0])] + [
            cell.rjust(width) for cell, width in zip(rest, widths[1:])]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (w + 1) + ":" for w in widths[1:]]) + "|"
    return "\n".join([line(rows[0]), rule] + [line(cells) for cells in rows[1:]])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    print("\nSmolLM2-135M-Instruct, WikiText-2 test: the first 40 windows of 512 tokens, no BOS, "
          "float32;\ncalibrated on 16 samples of 256 tokens of the validation text; inputs of all "
          "linears, q, k and v quantized.\n")
    print(format_table([HEAD] + [row(folder, name, title) for name, title in ROWS]))


if __name__ == "__main__":
    main()

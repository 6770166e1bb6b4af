#!/usr/bin/env python3
"""Compare the schedules by what they reach: one calibration and evaluation a row.

Rows that an earlier call finished are not run again, and one that was interrupted goes on at its
newest cut; see bench/README.md.  LRQ_VALID_TEXT names the whole calibration text, where it is.
"""
import argparse
import pathlib

import rows
import runs

SAMPLES, TOKENS, WINDOW = 16, 256, 512
SCHEDULES = (("wave = 1", ("--wave", 1)),
             ("wave = 8, emit = pre", ("--wave", 8, "--emit", "pre")),
             ("wave = 8, emit = post", ("--wave", 8, "--emit", "post")))


class ScheduleRow(rows.Row):
    """One schedule with one seed."""

    def __init__(self, title, flags, seed, settings, folder):
        self.title, self.flags, self.seed = title, flags, seed
        parts = [str(flag).lstrip("-") for flag in flags] + ["seed", str(seed)]
        super().__init__("-".join(parts), settings, folder)

    def make(self):
        evaluation = self.run.with_suffix(".eval.json")
        settings = self.settings
        runs.run_logged(
            [runs.PROGRAM, "calibrate", "--model", runs.MODEL, "--calib", settings["text"],
             "--nsamples", SAMPLES, "--seqlen", TOKENS, "--recipe", "lrquant",
             "--wbits", settings["bits"], "--abits", settings["bits"],
             "--epochs", settings["epochs"], *self.flags, "--seed", self.seed,
             "--hidden-layer-num", settings["blocks"], "--dtype", "float32", "--threads", 1,
             "--run", self.run, "--resume"], self.log)
        runs.run_logged(
            [runs.PROGRAM, "eval", "--run", self.run, "--ppl", runs.TEXTS / "test.joined.txt",
             "--seqlen", WINDOW, "--limit", settings["limit"], "--threads", 1,
             "--json", evaluation], self.log)
        (perplexity,) = runs.read_json(evaluation)["ppl"].values()
        frozen = rows.newest_frozen(self.run / "metrics.jsonl", settings["blocks"] - 1)
        self.keep({**frozen, "perplexity": perplexity})


def format_table(table):
    lines = [rows.table_line(("schedule", "seed", "NLC mean", "NLC median", "MSE", "perplexity")),
             "|---|---:|---:|---:|---:|---:|"]
    for row in table:
        found = row.result()
        numbers = ["-"] * 4 if found is None else [
            f"{found['nlc']:.4f}", f"{found['nlc_median']:.4f}", f"{found['mse']:.4g}",
            f"{found['perplexity']:.3f}"]
        lines.append(rows.table_line([row.title, str(row.seed), *numbers]))
    return "\n".join(lines)


def caption(settings, is_excerpt):
    return (f"SmolLM2-135M, the first {settings['blocks']} blocks, W{settings['bits']}"
            f"A{settings['bits']} lrquant, {settings['epochs']} epochs, one rank, float32; "
            f"{SAMPLES} windows of {TOKENS} tokens drawn by the seed from "
            f"{rows.text_name(settings['text'], is_excerpt)}. NLC and MSE: "
            f"propagated error behind the last block, over the {SAMPLES} calibration samples. "
            f"Perplexity: the first {settings['limit']} windows of {WINDOW} tokens of WikiText-2's "
            "test text.")


def work(options):
    text, digest, is_excerpt = rows.calibration_text()
    settings = {"bits": options.bits, "blocks": options.hidden_layer_num,
                "epochs": options.epochs, "limit": options.limit, "text": str(text),
                "text_sha256": digest}
    folder = (options.folder.resolve() / f"w{options.bits}a{options.bits}-"
              f"{options.hidden_layer_num}-blocks-{options.epochs}-epochs-{digest[:8]}")
    folder.mkdir(parents=True, exist_ok=True)
    table = [ScheduleRow(title, flags, seed, settings, folder)
             for title, flags in SCHEDULES for seed in options.seeds]
    failures = rows.make_missing(table, options)
    page = f"{format_table(table)}\n\n{caption(settings, is_excerpt)}\n"
    return rows.finish(page, options.out, failures, len(table), folder)


def main():
    parser = argparse.ArgumentParser(prog="launch/bench schedules", description=__doc__)
    rows.add_number(parser, "--bits", 4, "bits of weights and activations")
    rows.add_number(parser, "--epochs", 5, "passes over the samples")
    rows.add_number(parser, "--limit", 40, "windows of the perplexity")
    rows.add_number(parser, "--hidden-layer-num", 30, "first so many blocks of the model")
    rows.add_table_options(parser, runs.FOLDER / "schedules", seeds=[2, 3])
    options = parser.parse_args()
    runs.run_main("schedules", lambda: work(options))


if __name__ == "__main__":
    main()

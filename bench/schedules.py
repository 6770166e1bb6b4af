#!/usr/bin/env python3
"""Compare the schedules by what they reach: one calibration and evaluation a row.

Rows that an earlier call finished are not run again, and one that was interrupted goes on at its
newest cut; see bench/README.md.  LRQ_VALID_TEXT names the whole calibration text, where it is.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib

import runs

SAMPLES, TOKENS, WINDOW = 16, 256, 512
SCHEDULES = (("wave = 1", ("--wave", 1)),
             ("wave = 8, emit = pre", ("--wave", 8, "--emit", "pre")),
             ("wave = 8, emit = post", ("--wave", 8, "--emit", "post")))


class Row:
    """One schedule with one seed: its run directory, and its result beside that."""

    def __init__(self, title, flags, seed, settings, folder):
        self.title, self.flags, self.seed, self.settings = title, flags, seed, settings
        parts = [str(flag).lstrip("-") for flag in flags] + ["seed", str(seed)]
        self.name = "-".join(parts)
        self.run = folder / self.name
        self.file = folder / f"{self.name}.json"

    def result(self):
        """What an earlier call found with the same settings, or None."""
        try:
            found = runs.read_json(self.file)
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found["result"] if found["settings"] == self.settings else None

    def make(self):
        log = self.run.with_suffix(".log")
        evaluation = self.run.with_suffix(".eval.json")
        settings = self.settings
        runs.run_logged(
            [runs.PROGRAM, "calibrate", "--model", runs.MODEL, "--calib", settings["text"],
             "--nsamples", SAMPLES, "--seqlen", TOKENS, "--recipe", "lrquant",
             "--wbits", settings["bits"], "--abits", settings["bits"],
             "--epochs", settings["epochs"], *self.flags, "--seed", self.seed,
             "--hidden-layer-num", settings["blocks"], "--dtype", "float32", "--threads", 1,
             "--run", self.run, "--resume"], log)
        runs.run_logged(
            [runs.PROGRAM, "eval", "--run", self.run, "--ppl", runs.TEXTS / "test.joined.txt",
             "--seqlen", WINDOW, "--limit", settings["limit"], "--threads", 1,
             "--json", evaluation], log)
        (perplexity,) = runs.read_json(evaluation)["ppl"].values()
        frozen = newest_frozen(self.run / "metrics.jsonl", settings["blocks"] - 1)
        runs.write_json(self.file, {"settings": settings,
                                    "result": {**frozen, "perplexity": perplexity}})


def newest_frozen(path, block):
    """Propagated errors behind a block, from the newest line: a resumed run writes it again."""
    newest = None
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # torn by an interruption; what it said comes again
                continue
            if entry["event"] == "frozen" and entry["block"] == block:
                newest = entry
    if newest is None:
        raise runs.Failed(f"no frozen line of block {block}", path,
                          "remove that run directory and start again")
    return {name: newest[name] for name in ("nlc", "nlc_median", "mse")}


def table_line(cells):
    return "| " + " | ".join(cells) + " |"


def format_table(rows):
    lines = [table_line(("schedule", "seed", "NLC mean", "NLC median", "MSE", "perplexity")),
             "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        found = row.result()
        numbers = ["-"] * 4 if found is None else [
            f"{found['nlc']:.4f}", f"{found['nlc_median']:.4f}", f"{found['mse']:.4g}",
            f"{found['perplexity']:.3f}"]
        lines.append(table_line([row.title, str(row.seed), *numbers]))
    return "\n".join(lines)


def caption(settings, is_excerpt):
    text = ("the first 160 kB of WikiText-2's validation text (the part in this repository)"
            if is_excerpt else f"{pathlib.Path(settings['text']).name} (LRQ_VALID_TEXT)")
    return (f"SmolLM2-135M, the first {settings['blocks']} blocks, W{settings['bits']}"
            f"A{settings['bits']} lrquant, {settings['epochs']} epochs, one rank, float32; "
            f"{SAMPLES} windows of {TOKENS} tokens drawn by the seed from {text}. NLC and MSE: "
            f"propagated error behind the last block, over the {SAMPLES} calibration samples. "
            f"Perplexity: the first {settings['limit']} windows of {WINDOW} tokens of WikiText-2's "
            "test text.")


def make_missing(rows, jobs):
    """Make the rows without a result, `jobs` at a time; returns what went wrong."""
    missing = [row for row in rows if row.result() is None]
    runs.say(f"{len(rows) - len(missing)} of {len(rows)} rows are there, {len(missing)} to do")
    failures = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        making = {pool.submit(row.make): row for row in missing}
        try:
            for done in concurrent.futures.as_completed(making):
                row = making[done]
                if isinstance(done.exception(), runs.Failed):
                    failures.append(f"{row.name}: {done.exception()}")
                    runs.say(failures[-1])
                    continue
                done.result()
                runs.say(f"{row.name}: {row.result()}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures


def work(options):
    own_text = os.environ.get("LRQ_VALID_TEXT")
    text = pathlib.Path(own_text or runs.TEXTS / "valid.joined.txt").resolve()
    if not text.is_file():
        raise runs.Failed("the calibration text is not there", f"LRQ_VALID_TEXT={own_text}",
                          "name a text file, or unset it")
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    settings = {"bits": options.bits, "blocks": options.hidden_layer_num,
                "epochs": options.epochs, "limit": options.limit, "text": str(text),
                "text_sha256": digest}
    folder = (options.folder.resolve() / f"w{options.bits}a{options.bits}-"
              f"{options.hidden_layer_num}-blocks-{options.epochs}-epochs-{digest[:8]}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [Row(title, flags, seed, settings, folder)
            for title, flags in SCHEDULES for seed in options.seeds]
    failures = make_missing(rows, options.jobs)
    page = f"{format_table(rows)}\n\n{caption(settings, own_text is None)}\n"
    print(page, end="")
    if options.out:
        runs.write_text(options.out, page)
    if failures:
        raise runs.Failed(f"{len(failures)} of {len(rows)} rows ended early", folder,
                          "see the messages above, then run the same command again")
    return 0


def at_least_one(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def main():
    parser = argparse.ArgumentParser(prog="launch/bench schedules", description=__doc__)

    def number(flag, default, what, **more):
        parser.add_argument(flag, type=at_least_one, default=default, metavar="N",
                            help=f"{what} (default {default})", **more)

    parser.add_argument("--out", metavar="FILE", help="write the table to this file too")
    number("--bits", 4, "bits of weights and activations")
    number("--epochs", 5, "passes over the samples")
    number("--limit", 40, "windows of the perplexity")
    number("--hidden-layer-num", 30, "first so many blocks of the model")
    number("--jobs", 1, "rows that run at the same time, one core each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3], metavar="S",
                        help="seeds of the calibration windows (default 2 3)")
    parser.add_argument("--folder", type=pathlib.Path, default=runs.FOLDER / "schedules",
                        metavar="DIR", help="run directories and results (default %(default)s)")
    options = parser.parse_args()
    runs.run_main("schedules", lambda: work(options))


if __name__ == "__main__":
    main()

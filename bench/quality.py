#!/usr/bin/env python3
"""What the methods reach on SmolLM2-135M: a calibration and its evaluations a row.

Three tables: `methods` (methods by schemes, by perplexity and zero-shot mean, with and without
test-time adaptation), `options` (LRQuant and LRQuant+ with each of our own options, beside the same
seed without) and `waves` (LRQuant by wave width and batch, by propagated loss).  Rows that an earlier
call finished are not run again, and one that was interrupted goes on at its newest cut;
see bench/README.md.  LRQ_VALID_TEXT names the whole calibration text, where it is.
"""
import argparse
import functools
import itertools
import pathlib
import shutil
import statistics

import rows
import runs

SAMPLES, TOKENS, WINDOW = 16, 256, 512
SCHEMES = {"w6a6": ("--wbits", 6, "--abits", 6),
           "w4a4": ("--wbits", 4, "--abits", 4),
           "w3a16-g64": ("--wbits", 3, "--abits", 16, "--group-size", 64),
           "w2a16-g64": ("--wbits", 2, "--abits", 16, "--group-size", 64)}
# Recipe of each method where activations are quantized, and where weights alone are (None: the same
# as another's); what is set.
METHODS = {"rtn": ("rtn", "rtn"),
           "smoothquant": ("smoothquant", "smoothquant"),
           "omniquant": ("omniquant", "omniquant-wo"),
           # What OmniQuant and LRQuant start from; weights alone have one start, without smoothing.
           "omniquant-start": ("omniquant", None),
           "lrquant-start": ("lrquant", "lrquant-wo"),
           "lrquant": ("lrquant", "lrquant-wo"),
           "lrquant-plus": ("lrquant-plus", "lrquant-plus-wo")}
# The same with one of our own options, as "method, option".
OPTIONS = {"lrquant, token_energy": ("lrquant", "lrquant-wo", "loss.mse_scale=token_energy"),
           "lrquant, massive downweight": ("lrquant", "lrquant-wo",
                                           "loss.massive_tokens=downweight"),
           "lrquant, massive drop": ("lrquant", "lrquant-wo", "loss.massive_tokens=drop"),
           "lrquant, keep_best": ("lrquant", "lrquant-wo", "train.keep_best=true"),
           "lrquant-plus, ema": ("lrquant-plus", "lrquant-plus-wo", "loss.balance=ema")}
RECIPES = METHODS | OPTIONS
UNLEARNED = ("rtn", "smoothquant", "omniquant-start", "lrquant-start")
WAVES = {"w6a6": "lrquant", "w3a16-g64": "lrquant-wo"}


class MethodRow(rows.Row):
    """One method with one scheme and one seed, `wave = 1`, batch 1: a calibration, and evaluations
    that may come in later calls."""

    def __init__(self, method, scheme, seed, settings, evaluations, folder):
        self.method, self.scheme, self.seed = method, scheme, seed
        self.evaluations = evaluations
        name = method.replace(", ", "-").replace(" ", "-")
        super().__init__(f"{name}-{scheme}-seed-{seed}", settings, folder)

    def missing(self):
        return bool(self.missing_evaluations())

    def missing_evaluations(self):
        found = self.result() or {}
        return [one for one in self.evaluations
                if one.name not in found or one.documents != found.get(one.name + "_documents")]

    def make(self):
        settings = self.settings
        with_activations, weight_only, *fields = RECIPES[self.method]
        recipe = weight_only if weights_alone(self.scheme) else with_activations
        epochs = 0 if self.method in UNLEARNED else settings["epochs"]
        changes = [part for field in fields for part in ("--set", field)]
        if not rows.finished(self.run):
            runs.run_logged(calibration(settings, recipe, self.scheme, self.seed, self.run, 30)
                            + ["--epochs", epochs, *changes, "--wave", 1], self.log)
            shutil.rmtree(self.run / "activations")  # 0.3 GB that nothing reads any more
        for one in self.missing_evaluations():
            told = self.evaluate(*one.options(settings), *(("--tta",) if one.adapts else ()))
            result = {**(self.result() or {}), **rows.newest_frozen(self.run / "metrics.jsonl", 29)}
            for suffix in ("", "_adapted") if one.adapts else ("",):
                name = one.column + suffix
                result[name] = one.figure(told, suffix)
                if one.documents is not None:
                    result[name + "_documents"] = one.documents
            self.keep(result)

    def without_option(self):
        """The row of the same scheme and seed without an option of ours, or None for such a row."""
        if self.method in METHODS:
            return None
        return MethodRow(without_option(self.method), self.scheme, self.seed, self.settings,
                         self.evaluations, self.file.parent)


def without_option(method):
    return method.partition(", ")[0]


def weights_alone(scheme):
    return "a16" in scheme


class Evaluation:
    """One of a finished run's; with test-time adaptation it tells the plain figure too."""

    def __init__(self, column, adapts, documents=None):
        self.column, self.adapts, self.documents = column, adapts, documents
        self.name = column + ("_adapted" if adapts else "")

    def options(self, settings):
        if self.column == "tasks":
            return ("--tasks", "*", "--task-dir", runs.TASKS, "--seqlen", WINDOW, "--limit",
                    self.documents)
        return ("--ppl", runs.TEXTS / "test.joined.txt", "--seqlen", WINDOW, "--limit",
                settings["limit"])

    def figure(self, told, suffix):
        return told["tasks_mean" + suffix] if self.column == "tasks" else single(
            told["ppl" + suffix])


def evaluations(options, seed):
    """Those that a row of this seed is to have, cheapest first."""
    if options.table == "options":
        return [Evaluation("ppl", False)]
    adapts = options.tta == "on"
    wanted = [Evaluation("ppl", adapts)]
    # Zero-shot takes most of a row's time, and tells less than perplexity: one seed must do.
    if options.documents > 0 and seed == options.seeds[0]:
        wanted.append(Evaluation("tasks", adapts, options.documents))
    return wanted


def methods(options):
    """Those that are asked for; in the table `options` each follows what it is compared with."""
    if options.table == "methods":
        return options.methods or METHODS
    wanted = options.methods or OPTIONS
    return dict.fromkeys(name for method in wanted for name in (without_option(method), method))


class WaveRow(rows.Row):
    """LRQuant on the first blocks, with a width, a batch and a seed."""

    def __init__(self, scheme, wave, batch, seed, settings, folder):
        self.scheme, self.wave, self.batch, self.seed = scheme, wave, batch, seed
        super().__init__(f"wave-{wave}-batch-{batch}-{scheme}-seed-{seed}", settings, folder)

    def make(self):
        settings = self.settings
        blocks = settings["blocks"]
        # As many samples a step take as many times the rate.
        rates = ("--let-lr", 1e-3 * self.batch, "--lwc-lr", 1e-2 * self.batch)
        runs.run_logged(
            calibration(settings, WAVES[self.scheme], self.scheme, self.seed, self.run, blocks)
            + ["--epochs", settings["epochs"], "--wave", self.wave, "--batch-size", self.batch,
               *rates], self.log)
        self.keep(rows.newest_frozen(self.run / "metrics.jsonl", blocks - 1))
        shutil.rmtree(self.run / "activations")


def calibration(settings, recipe, scheme, seed, run, blocks):
    return [runs.PROGRAM, "calibrate", "--model", runs.MODEL, "--calib", settings["text"],
            "--nsamples", SAMPLES, "--seqlen", TOKENS, "--recipe", recipe, *SCHEMES[scheme],
            "--seed", seed, "--hidden-layer-num", blocks, "--dtype", "float32", "--threads", 1,
            "--run", run, "--resume"]


def single(values):
    (value,) = values.values()
    return value


def median_cell(table, name, digits):
    """Median over the seeds that are there, and the others' spread."""
    found = [row.result() for row in table]
    values = sorted(one[name] for one in found if one and name in one)
    if not values:
        return "-"
    text = f"{statistics.median(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({values[0]:.{digits}f} - {values[-1]:.{digits}f})"
    return text


def change_cell(table, name):
    """Each seed's change of a figure, in %, against the row without an option of ours."""
    pairs = [(row.result(), plain.result()) for row in table if (plain := row.without_option())]
    return ", ".join(f"{100 * (one[name] / plain[name] - 1):+.1f}" for one, plain in pairs
                     if one and plain and name in one and name in plain) or "-"


def median_column(title, name, digits):
    return title, functools.partial(median_cell, name=name, digits=digits)


COLUMNS = {"methods": (median_column("perplexity", "ppl", 3),
                       median_column("adapted", "ppl_adapted", 3),
                       median_column("zero-shot mean", "tasks", 4),
                       median_column("adapted", "tasks_adapted", 4),
                       median_column("NLC median", "nlc_median", 4)),
           "options": (median_column("perplexity", "ppl", 3),
                       ("change by seed, %", functools.partial(change_cell, name="ppl")),
                       median_column("NLC median", "nlc_median", 4),
                       median_column("NLC mean", "nlc", 4),
                       ("change by seed, %", functools.partial(change_cell, name="nlc")))}


def method_table(table, columns):
    lines = [rows.table_line(("scheme", "method", "seeds", *(title for title, _ in columns))),
             "|---|---|---:|" + "---:|" * len(columns)]
    for scheme, method in dict.fromkeys((row.scheme, row.method) for row in table):
        found = [row for row in table if (row.scheme, row.method) == (scheme, method)]
        lines.append(rows.table_line((scheme, method, str(sum(row.result() is not None for row in found)),
                                      *(cell(found) for _, cell in columns))))
    return "\n".join(lines)


def wave_table(table):
    lines = [rows.table_line(("scheme", "wave", "batch", "seeds", "NLC mean", "NLC median")),
             "|---|---:|---:|---:|---:|---:|"]
    for scheme, wave, batch in sorted({(r.scheme, r.wave, r.batch) for r in table},
                                      key=lambda key: (key[0] != "w6a6", *key)):
        found = [row for row in table
                 if (row.scheme, row.wave, row.batch) == (scheme, wave, batch)]
        lines.append(rows.table_line((scheme, str(wave), str(batch),
                                      str(sum(row.result() is not None for row in found)),
                                      median_cell(found, "nlc", 5),
                                      median_cell(found, "nlc_median", 5))))
    return "\n".join(lines)


def caption(settings, is_excerpt, what):
    return (f"SmolLM2-135M, {what}, {settings['epochs']} epochs where anything is learned, one "
            f"rank, float32; {SAMPLES} windows of {TOKENS} tokens drawn by the seed from "
            f"{rows.text_name(settings['text'], is_excerpt)}. Medians over the seeds, smallest and "
            f"largest in brackets. NLC: propagated error behind the last block, over the {SAMPLES} "
            "calibration samples.")


def work(options):
    text, digest, is_excerpt = rows.calibration_text()
    settings = {"epochs": options.epochs, "text": str(text), "text_sha256": digest}
    if options.table == "waves":
        settings["blocks"] = options.hidden_layer_num
        what = (f"lrquant on the first {options.hidden_layer_num} blocks (a wave wider than that "
                "is that wide), rates times the batch")
        make = [functools.partial(WaveRow, scheme, wave, batch, seed)
                for seed, scheme, wave, batch in itertools.product(
                    options.seeds, options.schemes or WAVES, (1, 8), (1, 4))]
    else:
        settings["limit"] = options.limit
        what = (f"wave 1, batch 1; perplexity on the first {options.limit} windows of {WINDOW} "
                "tokens of WikiText-2's test text")
        if options.table == "methods":
            what += (f", zero-shot on {options.documents} documents of each of nine tasks, with "
                     f"seed {options.seeds[0]}")
        make = [functools.partial(MethodRow, method, scheme, seed,
                                  evaluations=evaluations(options, seed))
                for seed, scheme, method in itertools.product(
                    options.seeds, options.schemes or SCHEMES, methods(options))
                if not weights_alone(scheme) or RECIPES[method][1]]
    if not make:
        raise runs.Failed("no row has these methods and schemes: weights alone have one start",
                          "options --methods, --schemes", "name lrquant-start instead")
    of_rows = "waves" if options.table == "waves" else "methods"  # what `options` compares are methods
    folder = options.folder.resolve() / f"{of_rows}-{options.epochs}-epochs-{digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    table = [kind(settings=settings, folder=folder) for kind in make]
    failures = rows.make_missing(table, options)
    drawn = (wave_table(table) if options.table == "waves" else
             method_table(table, COLUMNS[options.table]))
    page = f"{drawn}\n\n{caption(settings, is_excerpt, what)}\n"
    return rows.finish(page, options.out, failures, len(table), folder)


def main():
    parser = argparse.ArgumentParser(prog="launch/bench quality", description=__doc__)
    parser.add_argument("--table", choices=("methods", "options", "waves"), default="methods",
                        help="which table (default %(default)s)")
    rows.add_number(parser, "--epochs", 5, "passes over the samples")
    rows.add_number(parser, "--limit", 40, "windows of the perplexity")
    parser.add_argument("--documents", type=int, default=25, metavar="N",
                        help="documents of each zero-shot task, for the first seed; 0: none "
                             "(default %(default)s)")
    rows.add_number(parser, "--hidden-layer-num", 8, "blocks of the table waves")
    parser.add_argument("--methods", nargs="+", choices=RECIPES, metavar="M",
                        help=f"rows of {', '.join(METHODS)} (default all); of the table options: "
                             + "; ".join(OPTIONS) + " (default all)")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, metavar="S",
                        help=f"of {', '.join(SCHEMES)} (default all)")
    parser.add_argument("--tta", choices=("on", "off"), default="on",
                        help="with test-time adaptation beside (default %(default)s)")
    rows.add_table_options(parser, runs.FOLDER / "quality", seeds=[2, 3, 4])
    options = parser.parse_args()
    runs.run_main("quality", lambda: work(options))


if __name__ == "__main__":
    main()

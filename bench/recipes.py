#!/usr/bin/env python3
"""Every recipe at four bits on SmolLM2-135M: one calibration and one perplexity a row.

The settings are those under which the published codes were measured: sample i starts at token 2000 i
of the validation text, blocks of 64 channels, wave 1, batch 1.  Rows that an earlier call finished
are not run again, and one that was interrupted goes on at its newest cut; see bench/README.md.
"""
import argparse
import pathlib
import shutil

import rows
import runs

SAMPLES, TOKENS, STRIDE, WINDOW = 16, 256, 2000, 512
W4A4 = ("--wbits", 4, "--abits", 4)
# Recipe and options of each row; those that learn take --epochs too.
UNLEARNED = {"rtn": ("rtn", *W4A4),
             "smoothquant": ("smoothquant", *W4A4),
             "lae-start": ("lae-start", *W4A4),
             "gptq": ("gptq", *W4A4),
             "duquant": ("duquant-w4a4",),
             "duquant, maps from 256 tokens": ("duquant-w4a4", "--set", "rotation.calib=tokens",
                                               "--set", "rotation.calib_tokens=256"),
             "ruquant": ("ruquant-w4a4",),
             "rptq, keys and values alone": ("rptq-w4a4kv",),
             "rptq": ("rptq-w4a4",)}
LEARNED = {"omniquant": ("omniquant", *W4A4),
           "lrquant": ("lrquant", *W4A4),
           "lrquant-plus": ("lrquant-plus", *W4A4),
           "duquant-lwc": ("duquant-lwc-w4a4",),
           "ruquant-lh": ("ruquant-lh-w4a4",),
           "lrq": ("lrq-w4a4",),
           "ruquant-lh, keys and values in 16 bits": ("ruquant-lh-w4a4", "--kv-bits", 16),
           "lrq, keys and values in 16 bits": ("lrq-w4a4", "--kv-bits", 16)}
RECIPES = {**UNLEARNED, **LEARNED}
ZERO_SHOT = ("ruquant-lh", "lrq")  # the best published one, and ours: they take minutes each


class RecipeRow(rows.Row):
    """One recipe with one seed: a calibration, and evaluations that may come in later calls."""

    def __init__(self, recipe, seed, settings, documents, folder):
        self.recipe, self.seed, self.documents = recipe, seed, documents
        super().__init__(f"{recipe.replace(', ', '-').replace(' ', '-')}-seed-{seed}", settings,
                         folder)

    def missing(self):
        found = self.result()
        return found is None or (self.documents > 0 and found.get("documents") != self.documents)

    def make(self):
        settings = self.settings
        name, *options = RECIPES[self.recipe]
        learned = ("--epochs", settings["epochs"]) if self.recipe in LEARNED else ()
        told = self.run.with_suffix(".run.json")
        if not rows.finished(self.run):
            runs.run_logged([runs.PROGRAM, "calibrate", "--model", runs.MODEL, "--calib",
                             settings["text"], "--calib-stride", STRIDE, "--nsamples", SAMPLES,
                             "--seqlen", TOKENS, "--recipe", name, *options, *learned, "--wave", 1,
                             "--block-size", 64, "--seed", self.seed, "--dtype", "float32",
                             "--threads", 1, "--json", told, "--run", self.run, "--resume"],
                            self.log)
        shutil.rmtree(self.run / "activations", ignore_errors=True)  # nothing reads them any more
        result = self.result() or {}
        if "ppl" not in result:
            found = self.evaluate("--ppl", settings["eval"], "--seqlen", WINDOW, "--limit",
                                  settings["limit"])
            (result["ppl"],) = found["ppl"].values()
            calibration = runs.read_json(told)
            result |= {"seconds": calibration["seconds"],
                       "block_steps": calibration["block_steps"]}
            self.keep(result)
        if self.documents > 0:
            found = self.evaluate("--tasks", "*", "--task-dir", runs.TASKS, "--seqlen", WINDOW,
                                  "--limit", self.documents)
            self.keep(result | {"documents": self.documents, "tasks": found["tasks_mean"],
                                "tasks_error": found["tasks_mean_stderr"]})


def drawn(table, settings, is_excerpt, documents):
    lines = [rows.table_line(("recipe", "seed", "perplexity", "zero-shot mean", "block steps",
                              "calibration [s]")), "|---|---:|---:|---:|---:|---:|"]
    for row in table:
        found = row.result()
        cells = ("-", "-", "-", "-") if found is None else (
            f"{found['ppl']:.3f}",
            f"{found['tasks']:.4f} +- {found['tasks_error']:.4f}" if "tasks" in found else "",
            str(found["block_steps"]), f"{found['seconds']:.0f}")
        lines.append(rows.table_line((row.recipe, str(row.seed), *cells)))
    caption = (f"SmolLM2-135M, W4A4 (keys and values too), {settings['epochs']} epochs where "
               f"anything is learned, wave 1, batch 1, blocks of 64 channels, one rank, float32; "
               f"{SAMPLES} windows of {TOKENS} tokens, {STRIDE} apart, of "
               f"{rows.text_name(settings['text'], is_excerpt)}; perplexity on the first "
               f"{settings['limit']} windows of {WINDOW} tokens of "
               f"{pathlib.Path(settings['eval']).name}; zero-shot on {documents} documents of each "
               "of nine tasks, with the first seed.")
    return "\n".join(lines) + f"\n\n{caption}\n"


def work(options):
    text, digest, is_excerpt = rows.calibration_text()
    settings = {"epochs": options.epochs, "text": str(text), "text_sha256": digest,
                "limit": options.limit, "eval": str(options.eval.resolve()),
                "eval_sha256": rows.sha256_of(options.eval)}
    folder = options.folder.resolve() / f"recipes-{options.epochs}-epochs-{digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    table = [RecipeRow(recipe, seed, settings,
                       options.documents if recipe in ZERO_SHOT and seed == options.seeds[0] else 0,
                       folder)
             for recipe in options.recipes for seed in options.seeds]
    failures = rows.make_missing(table, options)
    return rows.finish(drawn(table, settings, is_excerpt, options.documents), options.out, failures, len(table),
                       folder)


def main():
    parser = argparse.ArgumentParser(prog="launch/bench recipes", description=__doc__)
    rows.add_number(parser, "--epochs", 5, "passes over the samples")
    rows.add_number(parser, "--limit", 40, "windows of the perplexity")
    parser.add_argument("--eval", metavar="FILE", type=pathlib.Path,
                        default=runs.TEXTS / "test.joined.txt",
                        help="text or token file to evaluate on (default WikiText-2's test text)")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="R",
                        help=f"rows of {', '.join(RECIPES)} (default all)")
    parser.add_argument("--documents", type=int, default=100, metavar="N",
                        help="documents of each zero-shot task, for " + " and ".join(ZERO_SHOT)
                             + " with the first seed; 0: none (default %(default)s)")
    rows.add_table_options(parser, runs.FOLDER / "recipes", seeds=[2])
    options = parser.parse_args()
    runs.run_main("recipes", lambda: work(options))


if __name__ == "__main__":
    main()

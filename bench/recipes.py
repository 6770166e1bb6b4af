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
             "duquant, maps from tokens": ("duquant-w4a4", "--set", "rotation.calib=tokens"),
             "ruquant": ("ruquant-w4a4",),
             "rptq, keys and values alone": ("rptq-w4a4kv",),
             "rptq": ("rptq-w4a4",)}
LEARNED = {"omniquant": ("omniquant", *W4A4),
           "lrquant": ("lrquant", *W4A4),
           "lrquant-plus": ("lrquant-plus", *W4A4),
           "duquant-lwc": ("duquant-lwc-w4a4",),
           "ruquant-lh": ("ruquant-lh-w4a4",),
           "lrq": ("lrq-w4a4",)}
RECIPES = {**UNLEARNED, **LEARNED}


class RecipeRow(rows.Row):
    """One recipe with one seed."""

    def __init__(self, recipe, seed, settings, folder):
        self.recipe, self.seed = recipe, seed
        super().__init__(f"{recipe.replace(', ', '-').replace(' ', '-')}-seed-{seed}", settings,
                         folder)

    def make(self):
        settings = self.settings
        name, *options = RECIPES[self.recipe]
        learned = ("--epochs", settings["epochs"]) if self.recipe in LEARNED else ()
        told = self.run.with_suffix(".run.json")
        runs.run_logged([runs.PROGRAM, "calibrate", "--model", runs.MODEL, "--calib",
                         settings["text"], "--calib-stride", STRIDE, "--nsamples", SAMPLES,
                         "--seqlen", TOKENS, "--recipe", name, *options, *learned, "--wave", 1,
                         "--block-size", 64, "--seed", self.seed, "--dtype", "float32",
                         "--threads", 1, "--json", told, "--run", self.run, "--resume"], self.log)
        file = self.run.with_suffix(".eval.json")
        runs.run_logged([runs.PROGRAM, "eval", "--run", self.run, "--threads", 1, "--json", file,
                         "--ppl", settings["eval"], "--seqlen", WINDOW, "--limit",
                         settings["limit"]], self.log)
        shutil.rmtree(self.run / "activations", ignore_errors=True)  # nothing reads them any more
        (perplexity,) = runs.read_json(file)["ppl"].values()
        calibration = runs.read_json(told)
        self.keep({"ppl": perplexity, "seconds": calibration["seconds"],
                   "block_steps": calibration["block_steps"]})


def drawn(table, settings, is_excerpt):
    lines = [rows.table_line(("recipe", "seed", "perplexity", "block steps", "calibration [s]")),
             "|---|---:|---:|---:|---:|"]
    for row in table:
        found = row.result()
        cells = ("-", "-", "-") if found is None else (
            f"{found['ppl']:.3f}", str(found["block_steps"]), f"{found['seconds']:.0f}")
        lines.append(rows.table_line((row.recipe, str(row.seed), *cells)))
    caption = (f"SmolLM2-135M, W4A4 (keys and values too), {settings['epochs']} epochs where "
               f"anything is learned, wave 1, batch 1, blocks of 64 channels, one rank, float32; "
               f"{SAMPLES} windows of {TOKENS} tokens, {STRIDE} apart, of "
               f"{rows.text_name(settings['text'], is_excerpt)}; perplexity on the first "
               f"{settings['limit']} windows of {WINDOW} tokens of "
               f"{pathlib.Path(settings['eval']).name}.")
    return "\n".join(lines) + f"\n\n{caption}\n"


def work(options):
    text, digest, is_excerpt = rows.calibration_text()
    settings = {"epochs": options.epochs, "text": str(text), "text_sha256": digest,
                "limit": options.limit, "eval": str(options.eval.resolve())}
    folder = options.folder.resolve() / f"{options.epochs}-epochs-{digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    table = [RecipeRow(recipe, seed, settings, folder)
             for recipe in options.recipes for seed in options.seeds]
    failures = rows.make_missing(table, options)
    return rows.finish(drawn(table, settings, is_excerpt), options.out, failures, len(table),
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
    rows.add_table_options(parser, runs.FOLDER / "recipes", seeds=[2])
    options = parser.parse_args()
    runs.run_main("recipes", lambda: work(options))


if __name__ == "__main__":
    main()

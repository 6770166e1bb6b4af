"""Tables whose rows are calibrations: made a few at a time, kept, and gone on with after a stop.

Needs nothing beyond Python itself.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib

import runs


class Row:
    """One row: its run directory, and its result beside that.  make() makes it and calls keep()."""

    def __init__(self, name, settings, folder):
        self.name, self.settings = name, settings
        self.run = folder / name
        self.file = folder / f"{name}.json"
        self.log = folder / f"{name}.log"

    def result(self):
        """What an earlier call found with the same settings, here or in the repository, or None."""
        for file in (self.file, runs.MEASURED / self.file.parent.name / self.file.name):
            try:
                found = runs.read_json(file)
            except (FileNotFoundError, json.JSONDecodeError):
                continue
            if without_place(found["settings"]) == without_place(self.settings):
                return found["result"]
        return None

    def missing(self):
        """Whether there is something to make."""
        return self.result() is None

    def keep(self, result):
        runs.write_json(self.file, {"settings": without_place(self.settings),
                                    "version": runs.version(), "result": result})

    def make(self):
        raise NotImplementedError

    def evaluate(self, *options):
        """What `eval` says of the row's finished run."""
        file = self.run.with_suffix(".eval.json")
        runs.run_logged([runs.PROGRAM, "eval", "--run", self.run, "--threads", 1, "--json", file,
                         *options], self.log)
        return runs.read_json(file)


def without_place(settings):
    """Settings but for where the texts lie: their sha256 say what they are."""
    return {name: value for name, value in settings.items() if name not in ("text", "eval")}


def make_missing(rows, options):
    """Make the rows that miss something, --jobs at a time, but none with --show; returns what went
    wrong."""
    if options.show:
        return []
    missing = [row for row in rows if row.missing()]
    runs.say(f"{len(rows) - len(missing)} of {len(rows)} rows are there, {len(missing)} to do")
    failures = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
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


def finished(run):
    """Whether a run directory holds a whole calibration."""
    return (run / "run.json").exists() and runs.read_json(run / "run.json")["finished"]


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


def calibration_text():
    """(file, sha256, True if it is the excerpt in this repository)."""
    own_text = os.environ.get("LRQ_VALID_TEXT")
    text = pathlib.Path(own_text or runs.TEXTS / "valid.joined.txt").resolve()
    if not text.is_file():
        raise runs.Failed("the calibration text is not there", f"LRQ_VALID_TEXT={own_text}",
                          "name a text file, or unset it")
    return text, sha256_of(text), own_text is None


def sha256_of(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def text_name(text, is_excerpt):
    if is_excerpt:
        return "the first 160 kB of WikiText-2's validation text (the part in this repository)"
    return f"{pathlib.Path(text).name} (LRQ_VALID_TEXT)"


def at_least_one(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def add_number(parser, flag, default, what, **more):
    parser.add_argument(flag, type=at_least_one, default=default, metavar="N",
                        help=f"{what} (default {default})", **more)


def add_table_options(parser, folder, seeds):
    """What every table of rows has: where it goes, its seeds, and whether rows are made at all."""
    parser.add_argument("--out", metavar="FILE", help="write the table to this file too")
    add_number(parser, "--jobs", 1, "rows that run at the same time, one core each")
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds, metavar="S",
                        help=f"seeds of what is drawn (default {' '.join(map(str, seeds))})")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    parser.add_argument("--folder", type=pathlib.Path, default=folder, metavar="DIR",
                        help="run directories and results (default %(default)s)")


def finish(page, out, failures, count, folder):
    """Print the table, write it where asked, and tell what went wrong."""
    print(page, end="")
    if out:
        runs.write_text(out, page)
    if failures:
        raise runs.Failed(f"{len(failures)} of {count} rows ended early", folder,
                          "see the messages above, then run the same command again")
    return 0

"""lrq-dist report: the page of runs on one to three ranks, finished, killed, stopped and resumed."""
import collections
import html.parser
import json
import os
import signal
import time

import program

VOID = {"meta"}
LEARNED = ("--wbits", 4, "--abits", 6, "--wave", 3)  # waves of blocks 0-2 and 3-4
BLOCKS = 5


class Page(html.parser.HTMLParser):
    """The elements of a page; one that is not closed, or closed twice, is a failed test."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open = []
        self.tags = collections.Counter()
        self.block_rows = {}   # block: cells
        self.worse_rows = []
        self.tables = collections.defaultdict(list)  # id: rows of cells
        self.gantts = []       # lists of (class, rank, step, x, width)
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes), f"an attribute twice: {tag} {attributes}"
        assert not {"src", "href", "onload", "onclick"} & set(found), (tag, attributes)
        self.tags[tag] += 1
        if tag in VOID:
            return
        self.open.append((tag, found))
        if tag == "tr":
            self.row = []
            if "data-block" in found:
                block = int(found["data-block"])
                assert block not in self.block_rows, f"block {block} has two rows"
                self.block_rows[block] = self.row
                if found.get("class") == "worse":
                    self.worse_rows.append(block)
            for outer, its in self.open:
                if outer == "table":
                    self.tables[its.get("id")].append(self.row)
        elif tag in ("td", "th"):
            self.row.append("")
        elif tag == "svg" and found.get("class") == "gantt":
            self.gantts.append([])
        elif tag == "rect" and "data-rank" in found:
            self.gantts[-1].append((found["class"], int(found["data-rank"]),
                                    int(found["data-step"]), float(found["x"]),
                                    float(found["width"])))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data
        if any(tag in ("td", "th") for tag, _ in self.open):
            self.row[-1] += data


class ReportTest(program.ProgramTest):
    def report(self, run_name, *more):
        """(page, figures) of a run."""
        out, figures = self.folder / "page.html", self.folder / "page.json"
        self.succeed(["report", "--run", self.folder / run_name, "--out", out, "--json", figures,
                      *more])
        return (Page(out.read_text(encoding="utf-8")),
                json.loads(figures.read_text(encoding="utf-8")))

    def lines(self, run_name, event):
        text = (self.folder / run_name / "metrics.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if line["event"] == event]

    def assert_whole(self, page, figures, ranks, epochs):
        """What every report of a finished run has."""
        self.assertEqual(sorted(page.block_rows), list(range(BLOCKS)))
        self.assertEqual(page.tags["script"] + page.tags["link"] + page.tags["img"], 0)
        self.assertEqual((figures["state"], figures["finished"]), ("finished", True))
        self.assertEqual(figures["recipe"], "lrquant")
        for entry in figures["blocks"]:
            self.assertEqual([e["epoch"] for e in entry["epochs"]], list(range(1, epochs + 1)))
            cells = page.block_rows[entry["block"]]
            self.assertEqual(cells[1], str(entry["wave"]))
            self.assertEqual(cells[2], str(epochs))
            self.assertAlmostEqual(float(cells[3]), entry["epochs"][0]["loss"], delta=1e-3)
            self.assertAlmostEqual(float(cells[8]) / entry["propagated"]["nlc_median"], 1, 2)
        self.assertEqual(page.worse_rows, figures["worse_than_start"])
        self.assertEqual(len(page.tables["waiting"]), 1 + 2 * ranks)
        self.assertEqual(len(page.tables["utilisation"]), 1 + ranks)

    def assert_bars(self, bars, busy_ranks):
        """Each busy rank has its steps, one after another, and none before its input is made."""
        ends = {}
        for kind, rank, step, x, width in bars:
            self.assertLess(rank, busy_ranks)
            self.assertGreater(width, 0)
            self.assertGreaterEqual(x + 0.02, ends.get(rank, 64.0), "bars of a rank overlap")
            ends[rank] = x + width
        steps = {(rank, step): (x, x + width) for kind, rank, step, x, width in bars
                 if kind == "step"}
        self.assertEqual({rank for rank, _ in steps}, set(range(busy_ranks)))
        for (rank, step), (x, _) in steps.items():
            if (rank - 1, step) in steps:
                self.assertGreaterEqual(x + 0.02, steps[rank - 1, step][1])

    def test_on_one_to_three_ranks(self):
        for ranks in (1, 2, 3):
            run = f"on-{ranks}"
            self.succeed(self.calibrate(run, *LEARNED, "--epochs", 2), ranks)
            page, figures = self.report(run)
            self.assert_whole(page, figures, ranks, epochs=2)
            self.assertEqual(len(page.gantts), 2, "all 8 steps of a wave of 3, and of one of 2")
            self.assert_bars(page.gantts[0], ranks)
            self.assert_bars(page.gantts[1], min(ranks, 2))
            for wave, stages in zip(figures["waves"], (ranks, min(ranks, 2)), strict=True):
                self.assertEqual((wave["stages"], wave["first_step"], wave["steps"]),
                                 (stages, 0, 8))
                for rank, waiting in enumerate(wave["waiting"]):
                    self.assertEqual(waiting["measured"] is None, rank >= stages)
                    for share in (waiting["measured"] or 0, waiting["simulated"]):
                        self.assertTrue(0 <= share <= 1, wave)
                if ranks == 1:
                    self.assertEqual(wave["waiting"][0], {"rank": 0, "measured": 0, "simulated": 0})
                # The last stage waits for its first input, at the least.
                elif stages > 1:
                    self.assertGreater(wave["waiting"][stages - 1]["simulated"], 0)
            self.assertEqual([call["ranks"] for call in figures["calls"]], [ranks])
        told = self.succeed(["report", "--run", self.folder / "on-2"]).stdout
        self.assertIn("report.html: 5 blocks, finished", told)
        Page((self.folder / "on-2" / "report.html").read_text(encoding="utf-8"))

    def test_two_replicas_of_two_stages(self):
        self.succeed(self.calibrate("replicas", *LEARNED, "--epochs", 1, "--batch-size", 2,
                                    "--replicas", 2), 4)
        page, figures = self.report("replicas")
        self.assert_whole(page, figures, 4, epochs=1)
        self.assertEqual([w["measured"] is None for w in figures["waves"][0]["waiting"]],
                         [False, True, False, True])
        self.assertEqual({bar[1] for bar in page.gantts[0]}, {0, 1, 2, 3})

    def wait_for(self, job, true):
        until = time.monotonic() + program.LIMIT_S
        while time.monotonic() < until and job.poll() is None:
            if true():
                return
            time.sleep(0.005)
        self.fail(f"the run did not come so far: {program.finish(job).output}")

    def epochs_told(self, run_name):
        path = self.folder / run_name / "metrics.jsonl"
        return path.read_text(encoding="utf-8").count('"epoch",') if path.exists() else 0

    def test_killed_then_stopped_then_finished(self):
        epochs = 20
        options = self.calibrate("broken", *LEARNED, "--epochs", epochs, "--cut-every", 10000,
                                 "--resume")
        job = program.start(options)
        self.wait_for(job, lambda: self.epochs_told("broken") >= 3)
        os.kill(job.pid, signal.SIGKILL)  # no cut: wave 0 begins again
        program.finish(job)
        page, figures = self.report("broken")
        self.assertEqual(sorted(page.block_rows), list(range(BLOCKS)))
        self.assertFalse(figures["finished"])
        self.assertIn(f"of {BLOCKS} blocks are; a resume starts", page.text)
        measured = [w for w in figures["waves"] if w["measured_seconds"] is not None]
        self.assertEqual(len(measured), len(self.lines("broken", "waited")))
        self.assert_bars(page.gantts[0], 1)

        told = self.epochs_told("broken")
        job = program.start(options, 2)
        self.wait_for(job, lambda: self.epochs_told("broken") >= told + 3)
        os.kill(job.pid, signal.SIGUSR1)
        self.assertEqual(program.finish(job).code, 75)
        page, figures = self.report("broken")
        cut = json.loads((self.folder / "broken" / "run.json").read_text(encoding="utf-8"))["cut"]
        self.assertIn(f"in wave {cut['wave']} behind step {cut['step']}", page.text)
        if cut["step"] > 0:  # else it was stopped between two waves
            part = figures["waves"][cut["wave"]]
            self.assertEqual((part["ranks"], part["first_step"], part["steps"]),
                             (2, 0, cut["step"]))

        self.succeed(options)
        page, figures = self.report("broken")
        self.assert_whole(page, figures, 1, epochs)
        rest = figures["waves"][cut["wave"]]
        self.assertEqual((rest["ranks"], rest["first_step"], rest["steps"]),
                         (1, cut["step"], 4 * epochs))
        told = collections.Counter((line["block"], line["epoch"])
                                   for line in self.lines("broken", "epoch"))
        self.assertGreaterEqual(max(told.values()), 2, "nothing was done again")
        # The same losses as a run that nobody disturbed, which the recipe and the seed alone decide.
        self.succeed(self.calibrate("whole", *LEARNED, "--epochs", epochs))
        _, unbroken = self.report("whole")
        for ours, theirs in zip(figures["blocks"], unbroken["blocks"], strict=True):
            self.assertEqual([epoch["loss"] for epoch in ours["epochs"]],
                             [epoch["loss"] for epoch in theirs["epochs"]])
            self.assertEqual(ours["propagated"], theirs["propagated"])
        self.assertEqual([call["stopped"] for call in figures["calls"]], [True, False])

    def test_nothing_that_is_read_becomes_markup(self):
        model, run = self.folder / "a <b>&\"m' model", "run <i>&\"r'"
        model.symlink_to(program.MODEL)
        arguments = self.calibrate(run, *LEARNED, "--epochs", 1)
        arguments[arguments.index("--model") + 1] = model
        self.succeed(arguments)
        with open(self.folder / run / "metrics.jsonl", "a", encoding="utf-8") as metrics:
            metrics.write('{"event":"epoch","wave":0,"block":0,"epoch":1,"loss":"<u>"}\n')
            metrics.write('{"event":"<u>"}\nnot JSON <u>\n{"event":"frozen","block":1')
        page, figures = self.report(run)
        self.assert_whole(page, figures, 1, epochs=1)
        self.assertEqual(page.tags["b"] + page.tags["i"] + page.tags["u"], 0)
        self.assertIn(str(model), page.text)
        self.assertIn(run, page.text)
        self.assertEqual(figures["lines_left_out"], 3)
        self.assertIn("3 lines of metrics.jsonl could not be read", page.text)

    def test_a_run_that_learns_nothing(self):
        self.succeed(self.calibrate("rtn", "--recipe", "rtn", "--wbits", 4, "--abits", 6), 2)
        page, figures = self.report("rtn")
        self.assertEqual(sorted(page.block_rows), list(range(BLOCKS)))
        self.assertEqual((page.gantts, figures["waves"]), ([], []))
        self.assertIn("nothing to simulate with", page.text)

    def test_what_is_no_run_is_refused(self):
        empty = self.folder / "empty"
        empty.mkdir()
        for folder in (empty, self.folder / "missing"):
            self.assert_refused(program.run(["report", "--run", folder]), 3, "no run.json")
            self.assertFalse((folder / "report.html").exists())
        (empty / "run.json").write_text('{"format": "another"}', encoding="utf-8")
        self.assert_refused(program.run(["report", "--run", empty]), 3, "run.json has format")
        self.succeed(self.calibrate("torn", "--recipe", "rtn", "--wbits", 4))
        self.assert_refused(program.run(["report", "--run", self.folder / "torn", "--out",
                                         self.folder / "no" / "page.html"]), 3, "page.html")
        program.truncate(self.folder / "torn" / "run.json")
        self.assert_refused(program.run(["report", "--run", self.folder / "torn"]), 3, "torn")
        self.assertEqual(program.run(["report"]).code, 2)


if __name__ == "__main__":
    program.main()

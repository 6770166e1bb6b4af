#include "src/report/page.h"

#include <algorithm>
#include <initializer_list>

#include "src/base/text.h"
#include "src/report/html.h"
#include "src/report/loss_charts.h"
#include "src/report/svg_gantt.h"

namespace lrq::report {
namespace {

constexpr const char* kStyle = R"css(
body { font: 14px/1.45 sans-serif; color: #1c1c1c; max-width: 1280px; margin: 24px auto; padding: 0 16px; }
h1 { font-size: 22px; } h2 { font-size: 17px; margin-top: 32px; }
table { border-collapse: collapse; } th, td { padding: 2px 10px; text-align: right; }
th { border-bottom: 1px solid #888; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
table.facts td { text-align: left; } tr.worse td { background: #fde3dc; }
p.warning { color: #9a2a00; font-weight: bold; } p { max-width: 900px; }
pre { background: #f4f4f4; padding: 10px; overflow-x: auto; }
svg { margin: 6px 12px 6px 0; max-width: 100%; } svg text { font: 11px sans-serif; }
svg .grid { stroke: #ddd; } svg .axis { stroke: #666; } svg .curve { fill: none; stroke-width: 1.5; }
svg rect.wait { fill: #ececec; } svg rect.step { fill: #6f9fd8; stroke: #fff; stroke-width: 0.5; }
svg rect.cut { fill: #d8893a; } svg text.inside { font-size: 10px; fill: #10243c; }
)css";

/// A row of cells that are HTML already.
std::string row(const std::vector<std::string>& cells, const char* cell = "td",
                const std::string& attributes = "") {
  std::string out = concat("<tr", attributes, ">");
  for (const std::string& text : cells) out += concat("<", cell, ">", text, "</", cell, ">");
  return out + "</tr>\n";
}

std::string table(const char* id, const std::vector<std::string>& names, const std::string& rows) {
  return concat("<table id=\"", id, "\">\n<thead>\n", row(names, "th"), "</thead>\n<tbody>\n", rows,
                "</tbody>\n</table>\n");
}

std::string names_of(const std::vector<int>& blocks) {
  std::vector<std::string> names;
  for (const int block : blocks) names.push_back(concat(block));
  return join(names, ", ");
}

std::string seconds_of_calls(const RunReport& report) {
  double seconds = 0.0;
  for (const CallRecord& call : report.metrics.calls) seconds += call.seconds;
  const std::size_t calls = report.metrics.calls.size();
  if (calls == 0) return "no call of calibrate has ended yet";
  return concat(format_seconds(seconds), " in ", calls, calls == 1 ? " call" : " calls",
                " of calibrate that came to an end");
}

std::string facts(const RunReport& report) {
  const auto& train = report.recipe.train;
  std::string rows;
  const auto fact = [&rows](const char* name, const std::string& text) {
    rows += row({name, escaped(text)});
  };
  fact("model", report.model);
  fact("recipe", report.recipe.name.empty() ? "without a name" : report.recipe.name);
  fact("bits", report.bits());
  fact("job", concat(report.samples, " samples, ", train.epochs, " epochs, batch ",
                     train.batch_size, ", ", report.dtype));
  fact("blocks", concat(report.blocks, " in ", report.waves.size(), " waves of ",
                        report.waves.front().size()));
  fact("ranks", concat(report.ranks, " (", report.transport, "), in the newest call"));
  fact("time", seconds_of_calls(report));
  fact("version", report.version);
  fact("state", report.state());
  return concat("<table class=\"facts\">\n<tbody>\n", rows, "</tbody>\n</table>\n");
}

std::string warnings(const RunReport& report) {
  std::string out;
  const auto warn = [&out](const std::string& text) {
    out += concat("<p class=\"warning\">", escaped(text), "</p>\n");
  };
  if (const auto worse = report.metrics.worse_blocks(); !worse.empty()) {
    warn(concat("Worse than their start, by the median of the propagated NLC: blocks ",
                names_of(worse)));
  }
  if (const auto blocks = report.nonfinite_blocks(); !blocks.empty()) {
    warn(concat("Steps whose loss was not finite, which were left out: blocks ", names_of(blocks)));
  }
  if (report.metrics.left_out > 0) {
    warn(concat(report.metrics.left_out,
                " lines of metrics.jsonl could not be read (torn by a kill, or not this program's) "
                "and are left out"));
  }
  return out;
}

std::string block_row(const RunReport& report, int block) {
  const auto& metrics = report.metrics;
  const int wave = block / report.waves.front().size();
  std::vector<std::string> cells = {concat(block), concat(wave)};
  if (const auto found = metrics.epochs.find(block); found != metrics.epochs.end()) {
    double seconds = 0.0;
    std::int64_t masked = 0;
    bool stopped = false;
    for (const auto& [number, epoch] : found->second) {
      seconds += epoch.seconds;
      masked += epoch.masked;
      stopped = stopped || epoch.stopped;
    }
    const auto& [last, newest] = *found->second.rbegin();
    cells.insert(cells.end(),
                 {concat(last), shown(found->second.begin()->second.loss), shown(newest.loss),
                  fixed(seconds, 1), concat(masked, stopped ? ", stopped" : "")});
  } else {
    cells.insert(cells.end(), {"-", "-", "-", "-", "-"});
  }
  const auto found = metrics.frozen.find(block);
  const FrozenRecord frozen = found == metrics.frozen.end() ? FrozenRecord{} : found->second;
  cells.insert(cells.end(), {shown(frozen.start_nlc), shown(frozen.nlc), shown(frozen.start_mse),
                             shown(frozen.mse), frozen.worse ? "worse than its start" : ""});
  return row(cells, "td",
             concat(" data-block=\"", block, "\"", frozen.worse ? " class=\"worse\"" : ""));
}

std::string block_table(const RunReport& report) {
  std::string rows;
  for (int block = 0; block < report.blocks; ++block) rows += block_row(report, block);
  return table("blocks",
               {"block", "wave", "epochs", "local loss, first epoch", "local loss, last epoch",
                "computing [s]", "steps not finite", "propagated NLC, start", "propagated NLC",
                "propagated MSE, start", "propagated MSE", ""},
               rows);
}

std::string waiting_rows(const WaveReplay& wave) {
  std::string rows;
  for (int rank = 0; rank < wave.ranks; ++rank) {
    const std::size_t stage = static_cast<std::size_t>(rank / wave.replicas);
    std::string blocks = "none: no part in this wave";
    if (stage < wave.stages.size()) {
      blocks = concat(wave.stages[stage].first, " - ", wave.stages[stage].last - 1);
      if (wave.replicas > 1) blocks += concat(", replica ", rank % wave.replicas);
    }
    const auto measured = wave.measured_waiting(rank);
    rows += row({concat(wave.wave), concat(wave.first_step, " - ", wave.steps - 1), concat(rank),
                 blocks, wave.measured ? fixed(wave.measured->seconds, 2) : "not yet",
                 fixed(wave.played.seconds, 2), measured ? percent(*measured) : "-",
                 percent(wave.simulated_waiting(rank))});
  }
  return rows;
}

std::string waiting(const RunReport& report) {
  std::string out =
      "<p>Part of the time of a wave's learning in which a rank had nothing to do, by the clock of "
      "the run, and by the simulator, which plays the same lists of actions. Its costs are this "
      "run's own: of each epoch the mean step of a stage, the mean cut, and messages that arrive "
      "at "
      "once; so what is measured beyond it is what single steps vary by, and messages. Of replicas "
      "only the first is measured. Of a wave that a resume went on with, the newest part.</p>\n";
  std::string rows;
  for (const WaveReplay& wave : report.replays) rows += waiting_rows(wave);
  return out + table("waiting",
                     {"wave", "steps", "rank", "blocks", "measured [s]", "simulated [s]",
                      "waiting measured", "waiting simulated"},
                     rows);
}

/// How many steps are readable beside each other: a few more than it takes to fill the pipeline.
std::int64_t readable_steps(const WaveReplay& wave) {
  return std::min<std::int64_t>(std::ssize(wave.stages), 40) + 8;
}

std::string charts_of(const WaveReplay& wave) {
  std::string out =
      concat("<h3>Wave ", wave.wave, ", blocks ", wave.blocks.first, " - ", wave.blocks.last - 1,
             ", steps ", wave.first_step, " - ", wave.steps - 1, "</h3>\n");
  const auto windows =
      readable_windows(wave.played.bars, wave.played.seconds, readable_steps(wave));
  if (windows.size() > 1) out += "<p>The first and the last steps:</p>\n";
  for (const Window& window : windows) {
    out += svg_of(Gantt{.bars = wave.played.bars, .ranks = wave.ranks, .window = window});
  }
  return out;
}

/// The first wave, and the last one where it is another: shorter, or on other ranks.
std::string schedule(const RunReport& report) {
  const WaveReplay& first = report.replays.front();
  const WaveReplay& last = report.replays.back();
  std::string out =
      "<p>Simulated, as above: blue a step of all blocks of the rank, orange a cut, grey waiting. "
      "Numbers are steps.</p>\n" +
      charts_of(first);
  const bool other = last.blocks.size() != first.blocks.size() || last.ranks != first.ranks ||
                     last.steps - last.first_step != first.steps - first.first_step;
  return other ? out + charts_of(last) : out;
}

std::string utilisation(const RunReport& report) {
  std::string rows;
  int rank = 0;
  for (const Utilisation& mine : utilisations(report)) {
    rows += row(
        {concat(rank++), mine.measured ? percent(*mine.measured) : "-", percent(mine.simulated)});
  }
  return "<p>Working, of all the time in which the waves above learned; without the passes that "
         "freeze them.</p>\n" +
         table("utilisation", {"rank", "measured", "simulated"}, rows);
}

std::string calls(const RunReport& report) {
  std::string rows;
  int number = 0;
  for (const CallRecord& call : report.metrics.calls) {
    const auto most = [](const std::vector<double>& values) {
      return values.empty() ? 0.0 : *std::max_element(values.begin(), values.end());
    };
    rows += row({concat(++number), concat(call.ranks), fixed(call.seconds, 1),
                 fixed(call.learning_seconds, 1), fixed(most(call.waited_seconds), 1),
                 fixed(most(call.peak_memory_bytes) / 1048576.0, 0),
                 call.stopped ? "stopped on request" : "finished"});
  }
  return table(
      "calls",
      {"call", "ranks", "time [s]", "waves: learning and freezing [s]",
       "waited, the rank that waited most [s]", "peak memory, the largest rank [MiB]", "end"},
      rows);
}

std::string section(const char* title, const std::string& content) {
  return concat("<h2>", title, "</h2>\n", content);
}

}  // namespace

std::string page_of(const RunReport& report) {
  std::string out = concat(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
      "<meta charset=\"utf-8\"/>\n<title>lrq-dist: ",
      escaped(report.run), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n<h1>Run ",
      escaped(report.run), "</h1>\n", facts(report), warnings(report));
  out += section("Losses", loss_charts(report));
  out += section("Blocks", block_table(report));
  if (report.replays.empty()) {
    out +=
        section("Waiting",
                "<p>No step of a block has been measured (yet): nothing to simulate with.</p>\n");
  } else {
    out += section("Waiting", waiting(report));
    out += section("Schedule", schedule(report));
    out += section("Utilisation", utilisation(report));
  }
  if (!report.metrics.calls.empty()) out += section("Calls", calls(report));
  out += section("Recipe, merged", concat("<pre>", escaped(report.recipe_toml), "</pre>\n"));
  return out + "</body>\n</html>\n";
}

}  // namespace lrq::report

#include "launch/plan_report.h"

#include <iomanip>
#include <sstream>

#include <nlohmann/json.hpp>

#include "launch/machine_file.h"
#include "src/base/text.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::cli {
namespace {

using Json = nlohmann::ordered_json;
using pipeline::MemoryUse;
using pipeline::RankEstimate;

std::string size(double bytes) { return format_bytes(static_cast<std::uint64_t>(bytes)); }

/// A number with so many decimals.
std::string fixed(double value, int decimals) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(decimals) << value;
  return out.str();
}

/// One line of a table: cells to the left in the first column, to the right in all others, each at
/// least so wide; the last cell as it is.
std::string row(const std::vector<int>& widths, const std::vector<std::string>& cells) {
  std::ostringstream out;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) out << ' ';
    if (i < widths.size()) out << std::setw(widths[i]) << (i == 0 ? std::left : std::right);
    out << cells[i];
  }
  out << '\n';
  return out.str();
}

const std::vector<int>& memory_widths() {
  static const std::vector<int> kWidths = {24, 10, 10, 10, 10, 11, 10, 10};
  return kWidths;
}

std::string memory_row(const std::string& name, const MemoryUse& use) {
  return row(memory_widths(),
             {name, size(use.weights), size(use.learnables), size(use.optimiser), size(use.work),
              size(use.activations), size(use.targets), size(use.total())});
}

std::string rank_rows(const char* which, const RankEstimate& rank) {
  const auto& memory = rank.memory;
  return memory_row(concat(which, " rank ", rank.rank, " chain"), memory.chain) +
         memory_row("  learn", memory.learn) + memory_row("  freeze", memory.freeze) +
         concat("  with ", size(memory.base), " that a process needs anyway and ",
                size(memory.kept), " that its allocator and tokenizer keep: ", size(memory.most()),
                "\n");
}

std::string memory_table(const PlanReport& report) {
  const RankEstimate& heaviest = pipeline::heaviest_rank(report.estimate.ranks);
  const RankEstimate& median = pipeline::median_rank(report.estimate.ranks);
  std::string text = row(memory_widths(), {"memory of a rank", "weights", "learnables", "optimiser",
                                           "work space", "activations", "targets", "all"}) +
                     rank_rows("heaviest", heaviest);
  if (median.rank != heaviest.rank) text += rank_rows("median", median);
  const bool fits = heaviest.memory.most() <= report.machine.memory_bytes;
  return text + concat("fits       ", fits ? "yes" : "NO", ": ", size(heaviest.memory.most()),
                       " of ", size(report.machine.memory_bytes), " a rank\n",
                       fits ? "" : concat("change     ", report.advice, "\n"));
}

std::string phase_table(const pipeline::RunEstimate& estimate) {
  const std::vector<int> widths = {8, 14, 14, 18, 17, 12};
  std::string text = row(widths, {"phase", "time", "of it loading", "computing [rank-s]",
                                  "files [rank-s]", "on the wire"});
  for (const pipeline::PhaseEstimate& phase : estimate.phases) {
    text += row(widths,
                {phase.name, format_seconds(phase.seconds), format_seconds(phase.loading_seconds),
                 fixed(phase.computing, 1), fixed(phase.file_seconds, 1), size(phase.wire_bytes)});
  }
  return text + concat("all        ", format_seconds(estimate.seconds()), ", ", estimate.steps,
                       " steps in ", estimate.waves, " waves; not waiting for another rank ",
                       fixed(estimate.utilisation(), 3), ", computing ",
                       fixed(estimate.computing_share(), 3), " of all ranks' time\n");
}

std::string schedule_table(const PlanReport& report) {
  const std::vector<int> widths = {5, 8, 9, 8, 14, 11, 9, 10, 4};
  std::string text = row(widths, {"wave", "replicas", "targets", "steps", "time", "utilisation",
                                  "computing", "memory", "fits"});
  for (const pipeline::Schedule& schedule : report.schedules) {
    text += row(widths, {concat(schedule.wave), concat(schedule.replicas),
                         std::string(pipeline::targets_name(schedule.targets)),
                         concat(schedule.steps), format_seconds(schedule.seconds),
                         fixed(schedule.utilisation, 3), fixed(schedule.computing_share, 3),
                         size(schedule.memory), schedule.fits ? "yes" : "NO"});
  }
  return text;
}

std::string heading(const PlanReport& report) {
  const auto& work = report.work;
  const std::int64_t most = pipeline::most_ranks(report.figures.blocks, work.recipe);
  std::string text = concat(
      "model      ", report.model, ": ", report.figures.blocks, " blocks of ",
      report.figures.block.parameters, " parameters, ", report.figures.parameters(), " in all\n",
      "job        ", work.recipe.name, ", ", report.shape.samples, " x ", work.tokens, " tokens, ",
      work.recipe.train.epochs, " epochs, batch ", work.recipe.train.batch_size, ", ",
      work.compute_bytes == 4 ? "float32" : "bfloat16", "; ", work.learnables.stepped,
      " learnables a block\n", "ranks      ", report.shape.ranks, ", waves of ",
      work.recipe.train.wave, " on ", report.estimate.stages, " stages, ", report.shape.replicas,
      report.shape.replicas == 1 ? " replica" : " replicas",
      ", targets: ", pipeline::targets_name(report.shape.targets),
      report.shape.resident_blocks == 0
          ? ""
          : concat(", blocks of a rank in memory: ", report.shape.resident_blocks),
      report.shape.ranks <= most ? "" : concat(" (calibrate takes at most ", most, " ranks)"), "\n",
      "machine    ", report.machine.name, ": ", report.machine.source, "\n");
  if (!report.machine.measured) text = "PREDICTED, NEVER RUN: no GPU has run this program\n" + text;
  const std::string missing = pipeline::not_counted(work.recipe);
  if (!missing.empty()) text += concat("not in it  ", missing, "\n");
  return text;
}

Json use_json(const MemoryUse& use) {
  return {{"weights", use.weights}, {"learnables", use.learnables},   {"optimiser", use.optimiser},
          {"work", use.work},       {"activations", use.activations}, {"targets", use.targets},
          {"total", use.total()}};
}

Json rank_json(const RankEstimate& rank) {
  return {{"rank", rank.rank},
          {"chain", use_json(rank.memory.chain)},
          {"learn", use_json(rank.memory.learn)},
          {"freeze", use_json(rank.memory.freeze)},
          {"base", rank.memory.base},
          {"kept", rank.memory.kept},
          {"needed", rank.memory.most()}};
}

}  // namespace

std::string plan_page(const PlanReport& report) {
  return heading(report) + "\n" + memory_table(report) +
         concat("disk       ", size(report.estimate.disk_bytes), " in the run directory\n\n") +
         phase_table(report.estimate) + "\n" + schedule_table(report);
}

std::string plan_json(const PlanReport& report) {
  const auto& estimate = report.estimate;
  const RankEstimate& heaviest = pipeline::heaviest_rank(estimate.ranks);
  Json json{{"model", report.model},
            {"parameters", report.figures.parameters()},
            {"recipe", report.work.recipe.name},
            {"machine", report.machine.name},
            {"constants", Json::parse(machine_to_json(report.machine))},
            {"ranks", report.shape.ranks},
            {"resident_blocks", report.shape.resident_blocks},
            {"seconds", estimate.seconds()},
            {"utilisation", estimate.utilisation()},
            {"computing_share", estimate.computing_share()},
            {"steps", estimate.steps},
            {"waves", estimate.waves},
            {"disk_bytes", estimate.disk_bytes},
            {"wire_bytes", estimate.wire_bytes()},
            {"fits", heaviest.memory.most() <= report.machine.memory_bytes},
            {"change", report.advice}};
  for (const auto& phase : estimate.phases) {
    json["phases"][phase.name] = {{"seconds", phase.seconds},
                                  {"loading_seconds", phase.loading_seconds},
                                  {"computing_rank_seconds", phase.computing},
                                  {"busy_rank_seconds", phase.busy},
                                  {"file_rank_seconds", phase.file_seconds},
                                  {"wire_bytes", phase.wire_bytes}};
  }
  for (const RankEstimate& rank : estimate.ranks) json["memory"].push_back(rank_json(rank));
  for (const auto& schedule : report.schedules) {
    json["schedules"].push_back({{"wave", schedule.wave},
                                 {"replicas", schedule.replicas},
                                 {"targets", pipeline::targets_name(schedule.targets)},
                                 {"steps", schedule.steps},
                                 {"seconds", schedule.seconds},
                                 {"utilisation", schedule.utilisation},
                                 {"computing_share", schedule.computing_share},
                                 {"memory", schedule.memory},
                                 {"fits", schedule.fits}});
  }
  return json.dump(2);
}

}  // namespace lrq::cli

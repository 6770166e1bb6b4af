#include "src/report/loss_charts.h"

#include "src/base/text.h"
#include "src/report/html.h"
#include "src/report/svg_chart.h"

namespace lrq::report {
namespace {

constexpr const char* kBefore = "#b4531f";
constexpr const char* kAfter = "#1f5fb4";

/// From blue (first block) to red (last).
std::string color_of(int block, int blocks) {
  const double share = blocks > 1 ? static_cast<double>(block) / (blocks - 1) : 0.0;
  return concat("hsl(", fixed(220.0 - 215.0 * share, 0), ",65%,45%)");
}

std::string local_by_block(const RunReport& report) {
  Series first{.name = "first epoch", .color = kBefore, .points = {}, .dashed = true};
  Series last{.name = "last epoch", .color = kAfter, .points = {}};
  for (const auto& [block, epochs] : report.metrics.epochs) {
    first.points.push_back({static_cast<double>(block), epochs.begin()->second.loss});
    last.points.push_back({static_cast<double>(block), epochs.rbegin()->second.loss});
  }
  return svg_of(Chart{.title = "Local loss, mean over an epoch's steps",
                      .x_name = "block",
                      .y_name = "no unit",
                      .series = {first, last}});
}

std::string local_by_epoch(const RunReport& report) {
  Chart chart{.title = concat("Local loss, blue: block 0, red: block ", report.blocks - 1),
              .x_name = "epoch",
              .y_name = "no unit",
              .series = {},
              .legend = false};
  for (const auto& [block, epochs] : report.metrics.epochs) {
    Series series{
        .name = concat("block ", block), .color = color_of(block, report.blocks), .points = {}};
    for (const auto& [epoch, record] : epochs) {
      series.points.push_back({static_cast<double>(epoch), record.loss});
    }
    chart.series.push_back(std::move(series));
  }
  return svg_of(chart);
}

std::string propagated(const RunReport& report, const char* what, double FrozenRecord::*start,
                       double FrozenRecord::*end) {
  Series before{.name = "start values", .color = kBefore, .points = {}, .dashed = true};
  Series after{.name = "finished", .color = kAfter, .points = {}};
  for (const auto& [block, frozen] : report.metrics.frozen) {
    before.points.push_back({static_cast<double>(block), frozen.*start});
    after.points.push_back({static_cast<double>(block), frozen.*end});
  }
  return svg_of(Chart{.title = concat("Propagated ", what, ", median over samples"),
                      .x_name = "behind block",
                      .y_name = "no unit",
                      .series = {before, after}});
}

}  // namespace

std::string loss_charts(const RunReport& report) {
  std::string out;
  if (!report.metrics.epochs.empty()) out += local_by_block(report) + local_by_epoch(report);
  return out + propagated(report, "NLC", &FrozenRecord::start_nlc, &FrozenRecord::nlc) +
         propagated(report, "MSE", &FrozenRecord::start_mse, &FrozenRecord::mse);
}

}  // namespace lrq::report

#include "src/pipeline/wave_reports.h"

#include <algorithm>
#include <array>
#include <utility>

#include <ATen/ATen.h>

namespace lrq::pipeline {
namespace {

/// As float64, in the order of packed() and unpack().
constexpr std::int64_t kFields = 7;

/// [blocks + 1, kFields]: a row a block, and a last one with the times of the stage.
at::Tensor empty_report(std::size_t blocks) {
  return at::zeros({static_cast<std::int64_t>(blocks) + 1, kFields},
                   at::TensorOptions().dtype(at::kDouble).device(at::kCPU));
}

at::Tensor packed(const std::vector<BlockEpoch>& blocks, const StageTimes& times) {
  at::Tensor report = empty_report(blocks.size());
  double* row = report.data_ptr<double>();
  for (const BlockEpoch& block : blocks) {
    const LossSummary& losses = block.losses;
    const std::array<double, kFields> values = {losses.loss,
                                                losses.mse,
                                                losses.nlc,
                                                static_cast<double>(losses.steps),
                                                static_cast<double>(losses.masked),
                                                losses.stopped ? 1.0 : 0.0,
                                                block.seconds};
    row = std::copy(values.begin(), values.end(), row);
  }
  row[0] = times.seconds;
  row[1] = times.waited;
  row[2] = times.cuts;
  return report;
}

void unpack(const at::Tensor& report, BlockRange range, WaveReports::Collected& collected) {
  const double* row = report.const_data_ptr<double>();
  for (int block = range.first; block < range.last; ++block, row += kFields) {
    const LossSummary losses{.loss = row[0],
                             .mse = row[1],
                             .nlc = row[2],
                             .steps = static_cast<std::int64_t>(row[3]),
                             .masked = static_cast<std::int64_t>(row[4]),
                             .stopped = row[5] != 0.0};
    collected.blocks.push_back({.block = BlockIndex{block}, .losses = losses, .seconds = row[6]});
  }
  collected.times.push_back({.seconds = row[0], .waited = row[1], .cuts = row[2]});
}

}  // namespace

WaveReports::WaveReports(dist::Transport& transport, std::vector<BlockRange> ranges, int replicas)
    : transport_(transport), ranges_(std::move(ranges)), replicas_(replicas) {}

void WaveReports::add(const std::vector<BlockEpoch>& blocks, const StageTimes& times) {
  own_.push_back(packed(blocks, times));
}

void WaveReports::send() {
  in_flight_.push_back(transport_.send(own_.front(), Rank{0}, "report"));
  own_.pop_front();
}

void WaveReports::flush() {
  for (auto& pending : in_flight_) pending->wait();
  in_flight_.clear();
}

WaveReports::Collected WaveReports::collect() {
  Collected collected;
  for (std::size_t stage = 0; stage < ranges_.size(); ++stage) {
    if (stage == 0) {
      unpack(own_.front(), ranges_[stage], collected);
      own_.pop_front();
      continue;
    }
    at::Tensor report = empty_report(static_cast<std::size_t>(ranges_[stage].size()));
    transport_.recv(report, Rank{static_cast<int>(stage) * replicas_}, "report")->wait();
    unpack(report, ranges_[stage], collected);
  }
  return collected;
}

}  // namespace lrq::pipeline

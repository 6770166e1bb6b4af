#include "src/pipeline/stage_samples.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"

namespace lrq::pipeline {
namespace {

constexpr std::size_t kStepsAhead = 2;
constexpr std::size_t kReadersEach = 2;

}  // namespace

StageSamples::StageSamples(std::vector<Readers> blocks, const Order& order,
                           std::function<at::Tensor(const at::Tensor&)> place)
    : order_(order), place_(std::move(place)) {
  for (Readers& readers : blocks) {
    readers_.push_back(std::move(readers.inputs));
    readers_.push_back(std::move(readers.targets));
  }
  restart(order.first_step);
}

void StageSamples::restart(std::int64_t step) {
  turn_ = step_ = step;
  block_ = 0;
  reader_ = 0;
  sample_ = 0;
  ahead_.reset();
  ahead_.emplace([this] { return next_read(); }, window(), place_);
}

std::size_t StageSamples::window() const {
  const auto used = std::count_if(readers_.begin(), readers_.end(),
                                  [](const auto& reader) { return reader != nullptr; });
  return std::max<std::size_t>(1, kStepsAhead * static_cast<std::size_t>(used * order_.count));
}

std::int64_t StageSamples::first_sample(std::int64_t step) const {
  return step % order_.micro_batches * order_.batch_size + order_.offset;
}

io::PlannedRead StageSamples::next_read() {
  for (; turn_ < order_.steps; turn_ = order_.turn_end(turn_), block_ = 0, step_ = turn_) {
    const std::int64_t end = std::min(order_.steps, order_.turn_end(turn_));
    for (; kReadersEach * block_ < readers_.size(); ++block_, step_ = turn_) {
      for (; step_ < end; ++step_, reader_ = 0) {
        for (; reader_ < kReadersEach; ++reader_, sample_ = 0) {
          const auto& reader = readers_[kReadersEach * block_ + reader_];
          if (reader == nullptr || sample_ == order_.count) continue;
          return {.reader = reader.get(), .sample = first_sample(step_) + sample_++};
        }
      }
    }
  }
  return {};
}

std::vector<at::Tensor> StageSamples::inputs(std::size_t block, std::int64_t step) {
  return take(kReadersEach * block, step);
}

std::vector<at::Tensor> StageSamples::targets(std::size_t block, std::int64_t step) {
  return take(kReadersEach * block + 1, step);
}

std::vector<at::Tensor> StageSamples::take(std::size_t reader, std::int64_t step) {
  expect(readers_.at(reader) != nullptr, "samples are taken where there are some");
  std::vector<at::Tensor> samples;
  for (std::int64_t i = 0; i < order_.count; ++i) {
    samples.push_back(
        ahead_->take({.reader = readers_[reader].get(), .sample = first_sample(step) + i}));
  }
  return samples;
}

}  // namespace lrq::pipeline

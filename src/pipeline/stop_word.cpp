#include "src/pipeline/stop_word.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

namespace lrq::pipeline {

StopWord::StopWord(dist::Transport& transport, int replicas, std::function<bool()> asked)
    : transport_(transport), replicas_(replicas), asked_(std::move(asked)) {}

std::int64_t StopWord::steps_before(std::int64_t step, std::int64_t steps) {
  if (std::exchange(seen_, step) == step) return steps;
  const bool decides = transport_.rank().value == 0;
  if (decides && !stopping_ && asked_()) {
    stopping_ = true;
    steps = std::min(step + 2, steps);
  }
  if (replicas_ == 1) return steps;
  const at::Tensor word =
      at::full({1}, steps, at::TensorOptions().dtype(at::kLong).device(at::kCPU));
  if (!decides) {
    transport_.recv(word, Rank{0}, "steps in all")->wait();
    return word.item<std::int64_t>();
  }
  flush();
  for (int replica = 1; replica < replicas_; ++replica) {
    in_flight_.push_back(transport_.send(word, Rank{replica}, "steps in all"));
  }
  return steps;
}

void StopWord::flush() {
  for (auto& pending : in_flight_) pending->wait();
  in_flight_.clear();
}

}  // namespace lrq::pipeline

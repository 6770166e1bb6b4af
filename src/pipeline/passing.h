#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace lrq::pipeline {

/// What one micro-batch is behind a block, and between two ranks.
struct Passing {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> targets;  ///< the original block's
};

/// A message: the outputs of the samples, then their targets where the next rank needs them.
[[nodiscard]] inline std::vector<at::Tensor> joined(const Passing& passing, bool with_targets) {
  std::vector<at::Tensor> message = passing.outputs;
  if (!with_targets) return message;
  message.insert(message.end(), passing.targets.begin(), passing.targets.end());
  return message;
}

[[nodiscard]] inline Passing split(std::vector<at::Tensor> message, bool with_targets) {
  if (!with_targets) return {.outputs = std::move(message), .targets = {}};
  const auto half = message.begin() + static_cast<std::ptrdiff_t>(message.size() / 2);
  return {.outputs = {message.begin(), half}, .targets = {half, message.end()}};
}

}  // namespace lrq::pipeline

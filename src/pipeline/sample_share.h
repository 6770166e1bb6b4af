#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "src/pipeline/run_context.h"
#include "src/quant/hessian.h"

namespace lrq::pipeline {

/// One rank's part of the samples of a block, where several ranks take them through it at the same
/// time: whole chunks (quant::sum_chunk), a contiguous run that is one subtree of their sums.  So
/// the sums, and with them the bits, are those of one rank.  By default a rank alone.
struct SampleShare {
  int count = 1;  ///< ranks that share: a power of two that divides the number of chunks
  int place = 0;  ///< of this one among them
  /// Sum in place over all of them, in the tree of their places (dist::tree_sum).
  std::function<void(const at::Tensor&)> sum = [](const at::Tensor&) {};
  /// Called between two pieces of work: ranks that only wait hear that this one lives.
  std::function<void()> alive = [] {};

  [[nodiscard]] quant::IndexRange chunks(std::int64_t samples) const;
  [[nodiscard]] quant::IndexRange of(std::int64_t samples) const;
};

/// How many of `ranks` share the samples of a block.
[[nodiscard]] int sharing_ranks(int ranks, std::int64_t samples);

/// Run `work` on the ranks that share the samples of a block, the first ones of the run, while the
/// others wait.  Collective; returns when rank 0 is done.
void share_samples(const RunContext& context, const std::function<void(const SampleShare&)>& work);

}  // namespace lrq::pipeline

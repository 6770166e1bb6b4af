#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "src/pipeline/activation_link.h"
#include "src/pipeline/schedule.h"

namespace lrq::pipeline {

/// What one rank does with each sample of a forward pass.
struct ForwardWork {
  /// What a sample begins with where no rank comes before: as many tensors [1, T, C] as a message
  /// holds.
  std::function<std::vector<at::Tensor>(std::int64_t sample)> source;
  int blocks = 0;  ///< of this rank
  /// Through the `i`-th of them; what the last one returns goes to the rank after, if there is one.
  std::function<std::vector<at::Tensor>(int i, std::vector<at::Tensor> x, std::int64_t sample)>
      block;
};

/// Walk this rank's list of a forward plan: receive or make each sample's activation, work on it,
/// pass it on, with transfers under way meanwhile.  Where a plan has turns (ForwardShape::turn), a
/// block does all samples of a turn before the next block begins.  Returns when all sends have been
/// taken over; on a rank without a part in the plan, when rank 0 is done.
void run_forward(dist::Transport& transport, const Plan& plan, const MessageShape& shape,
                 const ForwardWork& work);

}  // namespace lrq::pipeline

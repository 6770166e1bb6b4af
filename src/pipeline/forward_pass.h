#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "src/pipeline/activation_link.h"
#include "src/pipeline/schedule.h"

namespace lrq::pipeline {

/// What one rank does with each sample of a forward pass.
struct ForwardWork {
  /// The sample's activation [1, T, C] where no rank comes before.
  std::function<at::Tensor(std::int64_t sample)> source;
  /// Through the blocks of this rank; what it returns goes to the rank after, if there is one.
  std::function<at::Tensor(const at::Tensor& x, std::int64_t sample)> blocks;
};

/// Walk this rank's list of a forward plan: receive or make each sample's activation, work on it,
/// pass it on, with transfers under way meanwhile.  Returns when all sends have been taken over; on
/// a rank without a part in the plan, when rank 0 is done.
void run_forward(dist::Transport& transport, const Plan& plan, const MessageShape& shape,
                 const ForwardWork& work);

}  // namespace lrq::pipeline

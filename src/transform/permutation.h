#pragma once

#include "src/transform/transform.h"

namespace lrq::transform {

/// Reorder the channels: result[..., p] = x[..., pi[p]].
/// permutation [C] int64; x [..., C].  Gradient: of x.
[[nodiscard]] at::Tensor permute_channels(const at::Tensor& permutation, const at::Tensor& x);

/// Undo permute_channels, bit for bit.
[[nodiscard]] at::Tensor unpermute_channels(const at::Tensor& permutation, const at::Tensor& x);

/// Parameter [C] int64, each of 0 .. C-1 once.
[[nodiscard]] const Kind& permutation_kind();

}  // namespace lrq::transform

#pragma once

#include <ATen/core/Tensor.h>

#include "src/transform/transform.h"

namespace lrq::transform {

/// Compute the bias that a shift delta of a layer's input asks for: b + W delta, with W before any
/// scaling.  Source: Outlier Suppression+.  bias [O] or undefined (zero), weight [O, I], delta [I]
/// or undefined (none).  Returns [O] float32, or undefined if both are undefined.
[[nodiscard]] at::Tensor bias_with_shift(const at::Tensor& bias, const at::Tensor& weight,
                                         const at::Tensor& delta);

/// Subtract a constant from every channel: x -> x - d, W stays, b gains W d.
/// Source: Outlier Suppression+.  Parameter [C], finite; may be learned.
[[nodiscard]] const Kind& shift_kind();

}  // namespace lrq::transform

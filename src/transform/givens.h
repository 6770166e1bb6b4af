#pragma once

#include "src/transform/transform.h"

namespace lrq::transform {

/// Turn each pair of consecutive channels in its plane, counter-clockwise:
///   y_2i = cos(a_i) x_2i - sin(a_i) x_2i+1,   y_2i+1 = sin(a_i) x_2i + cos(a_i) x_2i+1
/// angles [C / 2] float, radians; x [..., C].  Gradient: of both.
[[nodiscard]] at::Tensor turn_pairs(const at::Tensor& angles, const at::Tensor& x);

/// Turn clockwise.
[[nodiscard]] at::Tensor turn_pairs_back(const at::Tensor& angles, const at::Tensor& x);

/// Parameter [C / 2], finite, C even; may be learned.
[[nodiscard]] const Kind& givens_kind();

}  // namespace lrq::transform

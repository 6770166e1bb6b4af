#pragma once

#include <ATen/core/Tensor.h>

#include "src/transform/draws.h"

namespace lrq::transform {

/// Find the vector w = u - t, not normalised, whose reflection sends u to a random target of even
/// spread, t = r ||u|| / ||r||, r uniform in [0, 1).  u [n] float64.
/// Differs: zeros, the identity, where w.w < 1e-10 or is not finite; the published code has no
/// guard.
[[nodiscard]] at::Tensor uniform_reflection(const at::Tensor& u, const Draws& draws);

/// Start the global reflection of a site: uniform_reflection of the token with the largest |value|,
/// the first of equal ones.  Source: RUQuant, stage 2.  x [N, C], N > 0.
/// Returns the parameter of kind householder, [C] float32 on x's device.
[[nodiscard]] at::Tensor householder_target(const at::Tensor& x, const Draws& draws);

}  // namespace lrq::transform

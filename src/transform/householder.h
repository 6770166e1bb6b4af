#pragma once

#include "src/transform/transform.h"

namespace lrq::transform {

/// Reflect along a vector of any length: result = x - 2 (x v) v',  v = w / ||w||.
/// Rank 1: 4 C operations a row, no [C, C] matrix; its own inverse.
/// Source: RUQuant, global Householder.  Differs: a vector shorter than 1e-12 is the identity to
/// the last bit; the published code divides it by 1e-12, which reflects by less than a whole. w [C]
/// float; x [..., C].  Gradient: of both, of w through its normalisation.
[[nodiscard]] at::Tensor reflect(const at::Tensor& w, const at::Tensor& x);

/// Parameter [C], finite; may be learned.
[[nodiscard]] const Kind& householder_kind();

}  // namespace lrq::transform

#pragma once

#include "src/transform/transform.h"

namespace lrq::transform {

/// Divide every channel by its own scale: x -> x / s, W -> W diag(s).
/// Source: SmoothQuant.  Parameter [C], finite and nowhere 0; may be learned.
[[nodiscard]] const Kind& scale_kind();

}  // namespace lrq::transform

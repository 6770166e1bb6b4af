#pragma once

#include <ATen/core/Tensor.h>

#include "src/quant/fake_quant.h"
#include "src/quant/grid.h"

namespace lrq::quant {

/// Whether the fused pass serves a tensor: float32 on the CPU.
[[nodiscard]] bool fused_serves(const at::Tensor& x);

/// fake_quant_weight by one fused pass per direction; only the gradients that somebody asks for
/// are computed.  Operands already checked, grid not the identity, fused_serves(weight).
/// Keeps for the way back: the operands and each range's minimum and maximum.  Threads: any.
[[nodiscard]] at::Tensor fake_quant_fused(const at::Tensor& weight,
                                          const WeightTransform& transform, const Grid& grid);

}  // namespace lrq::quant

#pragma once

#include <cstdint>

#include "src/quant/grid.h"

namespace lrq::quant::cpu {

/// What the kernels are compiled for.  All give the same bits: each sum runs over 16 lanes that
/// are added in one fixed order, and products are never contracted with sums.
enum class InstructionSet { kBase, kAvx2, kAvx512 };

/// Whether this build and this processor have the kernels of an instruction set.
[[nodiscard]] bool supported(InstructionSet set);

/// The widest supported one.
[[nodiscard]] InstructionSet best_instruction_set();

/// Borrow the operands of one call: float32, contiguous.  A null pointer means "all ones".
struct Operands {
  const float* data = nullptr;  ///< [rows, columns]
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const float* column_scale = nullptr;  ///< [columns]
  const float* row_scale = nullptr;     ///< [rows]
  const float* clip_upper = nullptr;    ///< [rows * G]
  const float* clip_lower = nullptr;    ///< [rows * G]
};

/// Where gradients go; null = nobody learns it, so it is not computed.  column_scale, which is
/// summed row after row, is set to zero first; the others are overwritten.
struct Gradients {
  float* data = nullptr;
  float* column_scale = nullptr;
  float* row_scale = nullptr;
  float* clip_upper = nullptr;
  float* clip_lower = nullptr;
};

/// Scale, find the ranges and fake-quantize, range after range in a buffer of one range.
/// y [rows, columns].  bounds [rows * G, 2]: minimum and maximum of each scaled range before
/// include_zero and clipping, the zeros of a shorter last group counted; NaN where one is inside.
/// Threads: any; uses one.
void fake_quant_forward(const Operands& in, const Grid& grid, float* y, float* bounds,
                        InstructionSet set);

/// Compute the wanted gradients from dy [rows, columns]; codes are computed again from `in`.
/// The gradient of a minimum or maximum is shared evenly between ties.
/// Threads: any; uses one.
void fake_quant_backward(const Operands& in, const Grid& grid, const float* bounds, const float* dy,
                         const Gradients& out, InstructionSet set);

}  // namespace lrq::quant::cpu

#pragma once

#include <ATen/core/Tensor.h>

#include "src/quant/grid.h"

namespace lrq::quant {

/// What changes a weight before it is quantized.  An undefined tensor means "all ones"/"no clip".
struct WeightTransform {
  at::Tensor column_scale = {};  ///< [I], multiplies the input channels; may carry gradient
  at::Tensor row_scale = {};   ///< [O], multiplies the output channels after column_scale; may too
  at::Tensor clip_upper = {};  ///< [O * G, 1], factor on each range's maximum (after the sigmoid)
  at::Tensor clip_lower = {};  ///< [O * G, 1], factor on each range's minimum
};

/// Scale a weight: (W * column_scale) * row_scale, newly allocated.  Carries gradient.
[[nodiscard]] at::Tensor scale_weight(const at::Tensor& weight, const WeightTransform& transform);

/// Scale a weight and fake-quantize it: W' = (W * column_scale) * row_scale; per group the range
/// [clip_lower * min W', clip_upper * max W'] (the bounds widened to 0 first where the grid says
/// so); code = clamp(round(W' / step) + zero, 0, 2^b - 1);  result = (code - zero) * step.
/// Gradient, written out because LibTorch's clamp passes none at its bounds since 2.14:
///   d/dx = inside,  d/dstep = (code - zero) - inside * x / step,  inside = 0 <= code' <= 2^b - 1;
///   the step's gradient goes on to minimum and maximum, shared evenly between ties.
/// weight [O, I] float32 or float64; carries gradient or not (none is computed if it does not).
/// Returns [O, I], same dtype, newly allocated.  grid.identity(): only the scaling.
/// On the CPU in float32 one fused pass per direction; elsewhere the same formula in ATen.
/// A row with a non-finite value comes back all NaN, so the loss shows it.
/// Throws BugError on shapes that do not fit.  Threads: any.
[[nodiscard]] at::Tensor fake_quant_weight(const at::Tensor& weight,
                                           const WeightTransform& transform, const Grid& grid);

/// Factors on the bounds of every row's range; an undefined tensor means 1.
struct RowClip {
  at::Tensor upper = {};  ///< [1], of the rows' dtype; may carry gradient
  at::Tensor lower = {};
};

/// Fake-quantize each row along the last axis (one token, or one head of one token), its range
/// [clip.lower * min x, clip.upper * max x].
/// x [..., C] float32 or float64, may carry gradient.  Returns same shape and dtype, newly
/// allocated; x itself if grid.identity().  grid.group_size is ignored.
/// grid.symmetric: S = clamp(max|x| / (2^(b-1) - 1), 1e-5, 1e4), codes -2^(b-1) .. 2^(b-1)-1.
/// Threads: any.
[[nodiscard]] at::Tensor fake_quant_rows(const at::Tensor& x, const Grid& grid,
                                         const RowClip& clip = {});

/// The same two by the plain ATen formula, whatever the device: what the fused passes are tested
/// against, and what runs on a GPU or on the meta device.
[[nodiscard]] at::Tensor fake_quant_weight_reference(const at::Tensor& weight,
                                                     const WeightTransform& transform,
                                                     const Grid& grid);
[[nodiscard]] at::Tensor fake_quant_rows_reference(const at::Tensor& x, const Grid& grid,
                                                   const RowClip& clip = {});

/// Integer codes with their steps and zero points, as an export stores them.
struct QuantizedWeight {
  at::Tensor codes;  ///< [O, I] int32 (uint8 where bits <= 8), 0 .. 2^b - 1
  at::Tensor step;   ///< [O, G]
  at::Tensor zero;   ///< [O, G], whole numbers
};

/// De-quantize: (codes - zero) * step, [O, I] of the step's dtype.
[[nodiscard]] at::Tensor dequantized(const QuantizedWeight& quantized, const Grid& grid);

/// Quantize as fake_quant_weight does, without gradient; (codes - zero) * step equals its result.
[[nodiscard]] QuantizedWeight quantize_weight(const at::Tensor& weight,
                                              const WeightTransform& transform, const Grid& grid);

}  // namespace lrq::quant

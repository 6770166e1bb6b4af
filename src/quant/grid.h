#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace lrq::quant {

/// Where the levels of one affine quantizer lie.  A value, copied freely.
struct Grid {
  int bits = 16;                ///< 2 .. 16; 16 and more is the identity
  bool symmetric = false;       ///< range from max |x| instead of min and max
  bool zero_point = true;       ///< false: symmetric grid centred on code 2^(bits-1), exportable
  bool include_zero = false;    ///< widen every range to contain 0, before any clipping
  std::int64_t group_size = 0;  ///< values that share a range along the last axis; 0 = all of it

  [[nodiscard]] bool identity() const { return bits >= 16; }
  [[nodiscard]] std::int64_t q_max() const { return (std::int64_t{1} << bits) - 1; }
  /// Groups in a row of `in` values; the last may be shorter (symmetric only).
  [[nodiscard]] std::int64_t groups(std::int64_t in) const {
    return group_size <= 0 ? 1 : (in + group_size - 1) / group_size;
  }
  friend bool operator==(const Grid&, const Grid&) = default;
};

/// Bounds of steps, and of the magnitude of zero points.
inline constexpr double kSmallestStep = 1e-5;
inline constexpr double kLargestStep = 1e4;
inline constexpr double kLargestZero = 1e4;

/// A number as a tensor on x's device: dividing by a host number is a multiplication by its
/// reciprocal on a GPU, which rounds differently.
[[nodiscard]] at::Tensor divisor(double value, const at::Tensor& x);

/// Step and rounded zero point of each range.  Unsigned codes 0 .. 2^bits - 1 serve all grids.
struct StepAndZero {
  at::Tensor step;  ///< same shape as the range, carries gradient
  at::Tensor zero;  ///< same shape, whole numbers, no gradient
};

/// Compute step and zero point of ranges [low, high].
///   symmetric:  A = max(|high|, |low|), step = clamp(A / (2^(b-1) - 1), 1e-5, 1e4)
///               zero = 2^(b-1) - 1, or 2^(b-1) where grid.zero_point is false
///   asymmetric: step = clamp((high - low) / (2^b - 1), 1e-5, 1e4),
///               zero = round(clamp(-low / step, -1e4, 1e4))
/// Source: OmniQuant/LRQuant quantizer (docs/methods.md, "Quantizer").
/// A range that is not finite gets step NaN.
/// low, high: any equal shape, float32 or float64, may carry gradient (closed-range clamp
/// gradient). Throws BugError if the shapes differ.  Threads: any.
[[nodiscard]] StepAndZero step_and_zero(const at::Tensor& low, const at::Tensor& high,
                                        const Grid& grid);

}  // namespace lrq::quant

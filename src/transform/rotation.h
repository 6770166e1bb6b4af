#pragma once

#include "src/transform/transform.h"

namespace lrq::transform {

/// Whether the C / B blocks of a site have one rotation in common or each its own.
enum class Blocks { kShared, kSeparate };

/// Largest departure |R R' - I| of a stored rotation: float32, product of float64.
inline constexpr double kLargestDeparture = 1e-5;

/// Turn each block of B consecutive channels: result[..., k, :] = x[..., k, :] R_k.
/// rotation [B, B], shared by all blocks, or [C / B, B, B]; x [..., C].  Gradient: of both.
[[nodiscard]] at::Tensor rotate(const at::Tensor& rotation, const at::Tensor& x);

/// Turn back: the same with the transposed matrices.
[[nodiscard]] at::Tensor rotate_back(const at::Tensor& rotation, const at::Tensor& x);

/// Largest entry of |R R' - I| over all blocks, in float64.
[[nodiscard]] double departure_from_orthogonal(const at::Tensor& rotation);

/// The block size where a recipe leaves it open: the largest power of two up to 128 that divides
/// the channels.
[[nodiscard]] std::int64_t auto_block_size(std::int64_t channels);

/// Parameter [B, B] or [C / B, B, B], orthogonal, B a divisor of C.
[[nodiscard]] const Kind& rotation_kind();

}  // namespace lrq::transform

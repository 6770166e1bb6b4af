#pragma once

#include "src/transform/transform.h"

namespace lrq::transform {

/// Send each block of n consecutive channels through the orthonormal Hadamard matrix in Sylvester's
/// order, which is symmetric and so its own inverse:
///   H_1 = 1,   H_2n = [[H_n, H_n], [H_n, -H_n]] / sqrt(2)
/// n a power of two dividing C; x [..., C].  Gradient: of x.
[[nodiscard]] at::Tensor hadamard_transform(std::int64_t n, const at::Tensor& x);

/// The largest power of two that divides a head's size, so that every head falls into whole blocks.
[[nodiscard]] std::int64_t hadamard_size(std::int64_t head_dim);

/// The parameter for blocks of n: an int64 [1] on the CPU, where reading it costs nothing.
[[nodiscard]] at::Tensor hadamard_parameter(std::int64_t n);

/// Parameter: one int64, the block size n.
[[nodiscard]] const Kind& hadamard_kind();

}  // namespace lrq::transform

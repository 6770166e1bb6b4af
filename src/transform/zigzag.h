#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace lrq::transform {

/// Deal the channels out to bins of equal size so that large ones are spread evenly: sorted by
/// absmax, largest first (equal ones keep their order), they go to bins 0, 1, .., K-1, K-1, .., 1,
/// 0, 0, 1, ..; the permutation is bin after bin.
/// Source: DuQuant, zigzag permutation.  absmax [C]: largest |x| of each channel.  bins: a divisor
/// of C.  Returns the parameter of kind permutation, [C] int64 on absmax's device.
[[nodiscard]] at::Tensor zigzag_permutation(const at::Tensor& absmax, std::int64_t bins);

}  // namespace lrq::transform

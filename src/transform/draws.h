#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace lrq::transform {

/// Where a builder takes its random numbers from, all on the CPU; each call goes on where the last
/// one, of whichever kind, has stopped.
struct Draws {
  std::function<at::Tensor(at::IntArrayRef shape)> normal;  ///< float64, N(0, 1)
  std::function<at::Tensor(std::int64_t n)> uniform;        ///< [n] float64, in [0, 1)
  std::function<at::Tensor(std::int64_t n)> permutation;    ///< [n] int64, of 0 .. n-1
};

/// Draw from a generator of its own, seeded with the key (of which LibTorch's takes 32 bits).
[[nodiscard]] Draws draws_from(std::uint64_t key);

}  // namespace lrq::transform

#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace lrq::transform {

/// Make the seed of one step's random numbers from what they are for, so that no result depends on
/// the order of work or on the number of devices:
///   h = mix(run_seed), then h = mix(h xor v) for v = block, site, stage, step; mix: one SplitMix64
///   step.
/// site: qkv 0, out 1, fc1 2, down 3.  stage: t for rotation t, T + 1 for the global reflection
/// behind T permutations.  step: that of a uniform rotation, else 0.
/// Differs: the published codes seed once and draw from two generators, one of them the device's.
[[nodiscard]] std::uint64_t draw_key(std::uint64_t run_seed, std::uint64_t block,
                                     std::uint64_t site, std::uint64_t stage, std::uint64_t step);

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

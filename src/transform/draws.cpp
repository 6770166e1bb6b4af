#include "src/transform/draws.h"

#include <initializer_list>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace lrq::transform {
namespace {

// One step of SplitMix64; unsigned arithmetic wraps modulo 2^64.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

}  // namespace

std::uint64_t draw_key(std::uint64_t run_seed, std::uint64_t block, std::uint64_t site,
                       std::uint64_t stage, std::uint64_t step) {
  std::uint64_t key = mix(run_seed);
  for (const std::uint64_t value : {block, site, stage, step}) key = mix(key ^ value);
  return key;
}

Draws draws_from(std::uint64_t key) {
  const at::Generator generator = at::detail::createCPUGenerator(key);  // shared by the three
  return {.normal =
              [generator](at::IntArrayRef shape) {
                return at::randn(shape, generator, at::TensorOptions(at::kDouble));
              },
          .uniform =
              [generator](std::int64_t n) {
                return at::rand({n}, generator, at::TensorOptions(at::kDouble));
              },
          .permutation =
              [generator](std::int64_t n) {
                return at::randperm(n, generator, at::TensorOptions(at::kLong));
              }};
}

}  // namespace lrq::transform

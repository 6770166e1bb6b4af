#include "src/transform/draws.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace lrq::transform {
Draws draws_from(std::uint64_t key) {
  const at::Generator generator = at::detail::createCPUGenerator(key);  // shared by the three
  return {.normal =
              [generator](at::IntArrayRef shape) {
                return at::randn(shape, generator, at::device(at::kCPU).dtype(at::kDouble));
              },
          .uniform =
              [generator](std::int64_t n) {
                return at::rand({n}, generator, at::device(at::kCPU).dtype(at::kDouble));
              },
          .permutation =
              [generator](std::int64_t n) {
                return at::randperm(n, generator, at::device(at::kCPU).dtype(at::kLong));
              }};
}

}  // namespace lrq::transform

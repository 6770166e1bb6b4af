#pragma once

#include <functional>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "src/transform/draws.h"
#include "src/transform/hadamard.h"
#include "src/transform/rotation.h"
#include "src/transform/transform.h"
#include "tests/quant/tensors.h"

namespace lrq::testing {

using transform::Draws;

/// Draws that hand out the numbers given, in order; std::out_of_range when they are used up.
inline Draws fixed_draws(std::vector<at::Tensor> uniforms, std::vector<at::Tensor> permutations) {
  const auto deal = [](std::vector<at::Tensor> numbers) {
    return [numbers = std::move(numbers), next = std::size_t{0}](std::int64_t n) mutable {
      const at::Tensor dealt = numbers.at(next++);
      EXPECT_EQ(dealt.numel(), n);
      return dealt;
    };
  };
  return {.normal = nullptr,
          .uniform = deal(std::move(uniforms)),
          .permutation = deal(std::move(permutations))};
}

/// [blocks, size, size] orthogonal matrices, exact to the rounding of float64.
inline at::Tensor random_orthogonal(std::int64_t blocks, std::int64_t size, std::uint64_t seed) {
  return std::get<0>(at::linalg_qr(random({blocks, size, size}, seed, at::kDouble))).contiguous();
}

using Maker = std::function<at::Tensor(std::int64_t channels, std::uint64_t seed)>;

/// How to make a random valid parameter of each kind, in float64 or int64, for an even number of
/// channels.
inline const std::map<std::string_view, Maker>& parameter_makers() {
  static const std::map<std::string_view, Maker> kMakers = {
      {"givens", [](auto c, auto seed) { return random({c / 2}, seed, at::kDouble); }},
      {"hadamard",
       [](auto c, auto) { return transform::hadamard_parameter(transform::hadamard_size(c)); }},
      {"householder", [](auto c, auto seed) { return random({c}, seed, at::kDouble) * 3; }},
      {"permutation",
       [](auto c, auto seed) {
         return at::randperm(c, at::make_generator<at::CPUGeneratorImpl>(seed),
                             at::TensorOptions(at::kLong));
       }},
      {"rotation",
       [](auto c, auto seed) {
         const std::int64_t block = seed % 3 == 0 ? c : c / 2;  // any size, powers of two or not
         const at::Tensor matrices = random_orthogonal(c / block, block, seed);
         return seed % 2 == 0 ? matrices[0].clone() : matrices;
       }},
      {"scale", [](auto c, auto seed) { return (random({c}, seed, at::kDouble) * 0.7).exp(); }},
      {"shift", [](auto c, auto seed) { return random({c}, seed, at::kDouble); }},
  };
  return kMakers;
}

/// The transform of that kind with a random parameter, stored as dtype where it is no index.
inline transform::Transform random_transform(const transform::Kind& kind, std::int64_t channels,
                                             std::uint64_t seed, at::ScalarType dtype) {
  const at::Tensor parameter = parameter_makers().at(kind.name)(channels, seed);
  return {&kind, parameter.is_floating_point() ? parameter.to(dtype) : parameter};
}

/// ||actual - expected|| / ||expected|| in float64.
inline double relative_distance(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor wanted = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - wanted).norm() / wanted.norm()).item<double>();
}

}  // namespace lrq::testing

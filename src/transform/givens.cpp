#include "src/transform/givens.h"

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

std::string givens_problem(const at::Tensor& angles, std::int64_t channels) {
  if (channels % 2 != 0) return concat(channels, " channels, which do not fall into pairs");
  return vector_problem(angles, channels / 2);
}

}  // namespace

at::Tensor turn_pairs(const at::Tensor& angles, const at::Tensor& x) {
  expect(x.dim() > 0 && x.size(-1) == 2 * angles.numel(), "plane rotations have [C / 2] angles");
  const at::Tensor pairs = as_rows(x, 2).reshape({-1, angles.numel(), 2});
  const at::Tensor first = pairs.select(-1, 0);
  const at::Tensor second = pairs.select(-1, 1);
  const at::Tensor angle = as_operand(angles, x);
  const at::Tensor cosine = angle.cos();
  const at::Tensor sine = angle.sin();
  const at::Tensor turned =
      at::stack({cosine * first - sine * second, sine * first + cosine * second}, -1);
  return turned.reshape(x.sizes());
}

at::Tensor turn_pairs_back(const at::Tensor& angles, const at::Tensor& x) {
  return turn_pairs(-angles, x);
}

const Kind& givens_kind() {
  static constexpr Kind kKind = {.name = "givens",
                                 .apply = turn_pairs,
                                 .invert = turn_pairs_back,
                                 .fold = turn_pairs,
                                 .unfold = turn_pairs_back,
                                 .bias_term = nullptr,
                                 .orthogonal = true,
                                 .problem = givens_problem};
  return kKind;
}

}  // namespace lrq::transform

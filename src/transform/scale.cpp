#include "src/transform/scale.h"

#include <ATen/ATen.h>

#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

at::Tensor divide(const at::Tensor& scale, const at::Tensor& x) { return x / as_operand(scale, x); }

at::Tensor multiply(const at::Tensor& scale, const at::Tensor& x) {
  return x * as_operand(scale, x);
}

std::string scale_problem(const at::Tensor& scale, std::int64_t channels) {
  if (std::string text = vector_problem(scale, channels); !text.empty()) return text;
  return scale.eq(0).any().item<bool>() ? "a scale is 0" : "";
}

}  // namespace

const Kind& scale_kind() {
  static constexpr Kind kKind = {.name = "scale",
                                 .apply = divide,
                                 .invert = multiply,
                                 .fold = multiply,
                                 .unfold = divide,
                                 .bias_term = nullptr,
                                 .orthogonal = false,
                                 .problem = scale_problem};
  return kKind;
}

}  // namespace lrq::transform

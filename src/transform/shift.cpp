#include "src/transform/shift.h"

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

at::Tensor subtract(const at::Tensor& delta, const at::Tensor& x) {
  return x - as_operand(delta, x);
}

at::Tensor add(const at::Tensor& delta, const at::Tensor& x) { return x + as_operand(delta, x); }

at::Tensor leave(const at::Tensor& /*delta*/, const at::Tensor& weight) { return weight; }

at::Tensor moved_bias(const at::Tensor& delta, const at::Tensor& weight) {
  return weight.mv(as_operand(delta, weight));
}

}  // namespace

at::Tensor bias_with_shift(const at::Tensor& bias, const at::Tensor& weight,
                           const at::Tensor& delta) {
  expect(weight.dim() == 2, "a weight is [O, I]");
  const at::ScalarType dtype = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  if (bias.defined()) {
    expect(bias.dim() == 1 && bias.size(0) == weight.size(0), "a bias is [O]");
  }
  if (!delta.defined()) return bias.defined() ? bias.to(dtype) : bias;
  expect(delta.dim() == 1 && delta.size(0) == weight.size(1), "a shift is [I]");
  const at::Tensor moved = at::mv(weight.to(dtype), delta.to(dtype));
  return bias.defined() ? bias.to(dtype) + moved : moved;
}

const Kind& shift_kind() {
  static constexpr Kind kKind = {.name = "shift",
                                 .apply = subtract,
                                 .invert = add,
                                 .fold = leave,
                                 .unfold = leave,
                                 .bias_term = moved_bias,
                                 .orthogonal = false,
                                 .problem = vector_problem};
  return kKind;
}

}  // namespace lrq::transform

#include "src/transform/shift.h"

#include <ATen/ATen.h>

#include "src/base/check.h"

namespace lrq::transform {

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

}  // namespace lrq::transform

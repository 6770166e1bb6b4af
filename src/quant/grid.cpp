#include "src/quant/grid.h"

#include <limits>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "src/base/check.h"

namespace lrq::quant {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// at::clamp with the gradient that its bounds have lost since LibTorch 2.14.
struct ClosedClamp : torch::autograd::Function<ClosedClamp> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x) {
    ctx->save_for_backward({x});
    return x.clamp(kSmallestStep, kLargestStep);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const Tensor x = ctx->get_saved_variables()[0];
    const Tensor inside = x.ge(kSmallestStep).bitwise_and(x.le(kLargestStep));
    return {grad_out[0].masked_fill(inside.bitwise_not(), 0)};
  }
};

// |x| and "x is a number", in operations that C++ can also run on the meta device
// (neither abs nor logical_and: hence maximum and bitwise_and).
Tensor magnitude(const Tensor& x) { return at::maximum(x, x.neg()); }
Tensor is_finite(const Tensor& x) { return (x - x).eq(0); }

// max(|high|, |low|); equal magnitudes share the gradient by halves, as at::maximum does, whose own
// way back the meta device does not run.
struct LargestMagnitude : torch::autograd::Function<LargestMagnitude> {
  static Tensor forward(AutogradContext* ctx, const Tensor& high, const Tensor& low) {
    ctx->save_for_backward({high, low});
    return at::maximum(magnitude(high), magnitude(low));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &high = saved[0], &low = saved[1], &grad = grad_out[0];
    const Tensor from_high = magnitude(high);
    const Tensor from_low = magnitude(low);
    const Tensor half = from_high.eq(from_low).to(grad.scalar_type()) * 0.5;
    return {grad * (from_high.gt(from_low) + half) * high.sign(),
            grad * (from_low.gt(from_high) + half) * low.sign()};
  }
};

}  // namespace

Tensor divisor(double value, const Tensor& x) { return at::full({}, value, x.options()); }

StepAndZero step_and_zero(const Tensor& low, const Tensor& high, const Grid& grid) {
  expect(low.sizes() == high.sizes(), "both bounds of a range have the same shape");
  expect(grid.bits >= 2 && !grid.identity(), "a grid with steps has 2 to 15 bits");
  const double half = static_cast<double>(std::int64_t{1} << (grid.bits - 1));
  Tensor raw;
  if (grid.symmetric) {
    raw = LargestMagnitude::apply(high, low) / divisor(half - 1, low);
  } else {
    raw = (high - low) / divisor(static_cast<double>(grid.q_max()), low);
  }
  const Tensor broken = is_finite(high.detach()).bitwise_and(is_finite(low.detach())).bitwise_not();
  const Tensor step =
      ClosedClamp::apply(raw).masked_fill(broken, std::numeric_limits<double>::quiet_NaN());
  if (grid.symmetric) {
    return {step, at::full_like(step.detach(), grid.zero_point ? half - 1 : half)};
  }
  const Tensor zero = (low.detach().neg() / step.detach()).clamp(-kLargestZero, kLargestZero);
  return {step, zero.round()};
}

}  // namespace lrq::quant

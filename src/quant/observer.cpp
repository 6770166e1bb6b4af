#include "src/quant/observer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"

namespace lrq::quant {

namespace {

constexpr double kShiftKept = 0.99;
constexpr double kShiftTaken = 0.01;

}  // namespace

void ChannelObserver::observe(const at::Tensor& x) {
  const c10::NoGradGuard no_grad;
  expect(x.dim() == 3 && x.size(0) == 1 && x.size(1) > 0, "an observed sample is [1, T, C]");
  expect(!absmax_.defined() || absmax_.size(0) == x.size(2),
         "all samples of one observer have the same channels");
  const at::Tensor highest = x.amax({0, 1}).to(at::kFloat);
  const at::Tensor lowest = x.amin({0, 1}).to(at::kFloat);
  const at::Tensor absmax = at::maximum(highest.abs(), lowest.abs());
  const at::Tensor middle = (highest + lowest) * 0.5;
  absmax_ = absmax_.defined() ? at::maximum(absmax_, absmax) : absmax;
  shift_ = shift_.defined() ? shift_ * kShiftKept + middle * kShiftTaken : middle;
}

}  // namespace lrq::quant

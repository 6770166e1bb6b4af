#include "src/quant/cluster_observer.h"

#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"

namespace lrq::quant {
namespace {

using at::Tensor;

constexpr double kKept = 0.99;
constexpr double kTaken = 0.01;

// The extrema of each channel over the tokens of one sample.
ClusterRange channel_range(const Tensor& x) {
  expect((x.dim() == 2 || (x.dim() == 3 && x.size(0) == 1)) && x.numel() > 0,
         "an observed sample is [T, C] or [1, T, C]");
  const Tensor rows = x.reshape({-1, x.size(-1)});
  const at::ScalarType dtype = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {.low = rows.amin(0).to(dtype), .high = rows.amax(0).to(dtype)};
}

ClusterRange union_of(const ClusterRange& before, const ClusterRange& now) {
  if (!before.low.defined()) return now;
  expect(before.low.sizes() == now.low.sizes(), "all samples of one observer have one width");
  return {.low = at::minimum(before.low, now.low), .high = at::maximum(before.high, now.high)};
}

}  // namespace

ClusterObserver::ClusterObserver(ClusterLayout layout, RangeRule rule)
    : layout_(std::move(layout)), rule_(rule) {}

ClusterRange ClusterObserver::range_of(const Tensor& x) const {
  const c10::NoGradGuard no_grad;
  const auto [low, high] = channel_range(x);
  return {.low = cluster_range(low, layout_).low, .high = cluster_range(high, layout_).high};
}

void ClusterObserver::add(const ClusterRange& now) {
  const c10::NoGradGuard no_grad;
  if (rule_ == RangeRule::kEma && range_.low.defined()) {
    range_ = {.low = range_.low * kKept + now.low * kTaken,
              .high = range_.high * kKept + now.high * kTaken};
  } else {
    range_ = union_of(range_, now);
  }
}

void ChannelRangeObserver::observe(const Tensor& x) {
  const c10::NoGradGuard no_grad;
  range_ = union_of(range_, channel_range(x));
}

}  // namespace lrq::quant

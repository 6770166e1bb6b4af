#include "src/quant/cluster_quant.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"

namespace lrq::quant {
namespace {

using at::Tensor;

constexpr double kSmallestClusterStep = 1e-4;

void add_run(ClusterLayout& layout, std::int64_t cluster, std::int64_t channels) {
  expect(channels > 0, "a cluster has channels");
  layout.runs.push_back({cluster, channels});
}

double half_of(int bits) { return static_cast<double>(std::int64_t{1} << (bits - 1)); }

void check_values(const Tensor& x, std::int64_t channels) {
  expect(x.dim() >= 1 && x.size(-1) == channels, "clusters are laid out over the last axis");
  expect(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble,
         "values to quantize are float32 or float64");
}

ClusterRange widened(const ClusterRange& range, double floor) {
  if (floor <= 0) return range;
  const Tensor whole = range.high.amax(-1, /*keepdim=*/true) - range.low.amin(-1, true);
  const Tensor missing = (whole * floor - (range.high - range.low)).clamp_min(0) * 0.5;
  return {.low = range.low - missing, .high = range.high + missing};
}

Tensor round_to(const Tensor& x, const Tensor& step, const Tensor& zero, int bits) {
  const double half = half_of(bits);
  return ((x / step).round_().add_(zero).clamp_(-half, half - 1) - zero).mul_(step);
}

}  // namespace

ClusterLayout ClusterLayout::contiguous(const std::vector<std::int64_t>& counts) {
  ClusterLayout layout;
  std::int64_t cluster = 0;
  for (const std::int64_t count : counts) add_run(layout, cluster++, count);
  return layout;
}

ClusterLayout ClusterLayout::paired(const std::vector<std::vector<std::int64_t>>& heads) {
  ClusterLayout layout;
  for (const std::vector<std::int64_t>& pairs : heads) {
    const std::int64_t first = layout.clusters();
    for (int half = 0; half < 2; ++half) {
      std::int64_t cluster = first;
      for (const std::int64_t count : pairs) add_run(layout, cluster++, count);
    }
  }
  return layout;
}

std::int64_t ClusterLayout::clusters() const {
  std::int64_t count = 0;
  for (const Run& run : runs) count = std::max(count, run.cluster + 1);
  return count;
}

std::int64_t ClusterLayout::channels() const {
  std::int64_t sum = 0;
  for (const Run& run : runs) sum += run.channels;
  return sum;
}

Tensor ClusterLayout::column_group(at::Device device) const {
  Tensor result = at::empty({channels()}, at::device(at::kCPU).dtype(at::kLong));
  std::int64_t* next = result.mutable_data_ptr<std::int64_t>();
  for (const Run& run : runs) next = std::fill_n(next, run.channels, run.cluster);
  return result.to(device);
}

ClusterRange cluster_range(const Tensor& x, const ClusterLayout& layout) {
  const c10::NoGradGuard no_grad;
  expect(x.dim() >= 1 && x.size(-1) == layout.channels() && !layout.runs.empty(),
         "clusters are laid out over the last axis");
  std::vector<Tensor> low(static_cast<std::size_t>(layout.clusters()));
  std::vector<Tensor> high(low.size());
  std::int64_t begin = 0;
  for (const ClusterLayout::Run& run : layout.runs) {
    const Tensor part = x.narrow(-1, begin, run.channels);
    const auto cluster = static_cast<std::size_t>(run.cluster);
    const Tensor lowest = part.amin(-1);
    const Tensor highest = part.amax(-1);
    low[cluster] = low[cluster].defined() ? at::minimum(low[cluster], lowest) : lowest;
    high[cluster] = high[cluster].defined() ? at::maximum(high[cluster], highest) : highest;
    begin += run.channels;
  }
  return {.low = at::stack(low, -1), .high = at::stack(high, -1)};
}

Tensor spread(const Tensor& per_cluster, const ClusterLayout& layout) {
  const c10::NoGradGuard no_grad;
  expect(per_cluster.dim() >= 1 && per_cluster.size(-1) == layout.clusters(),
         "there is one value for each cluster");
  return per_cluster.index_select(-1, layout.column_group(per_cluster.device()));
}

StepAndZero cluster_step_and_zero(const ClusterRange& range, const ClusterGrid& grid) {
  const c10::NoGradGuard no_grad;
  expect(range.low.dim() >= 1 && range.low.sizes() == range.high.sizes(),
         "both bounds of cluster ranges are [..., g]");
  expect(grid.bits >= 2 && !grid.identity(), "a grid with steps has 2 to 15 bits");
  const auto [low, high] = widened(range, grid.range_floor);
  const double half = half_of(grid.bits);
  if (grid.levels == ClusterLevels::kOneMore) {
    const Tensor step = ((high - low) * (0.5 / half)).clamp_(kSmallestClusterStep, kLargestStep);
    const Tensor zero = (high + low).mul_(divisor(-0.5, step) / step);
    return {step, zero.clamp_(-kLargestZero, kLargestZero).round_()};
  }
  const Tensor step =
      ((high - low) / divisor(2 * half - 1, low)).clamp_(kSmallestClusterStep, kLargestStep);
  const Tensor zero = (low / step).neg_().sub_(half);
  return {step, zero.clamp_(-kLargestZero, kLargestZero).round_()};
}

Tensor fake_quant_static(const Tensor& x, const Tensor& step, const Tensor& zero, int bits) {
  if (bits >= 16) return x;
  const c10::NoGradGuard no_grad;
  expect(bits >= 2, "a grid has at least 2 bits");
  expect(step.dim() == 1 && step.sizes() == zero.sizes(), "step and zero are [C]");
  check_values(x, step.size(0));
  expect(step.scalar_type() == x.scalar_type() && zero.scalar_type() == x.scalar_type(),
         "step and zero have the dtype of the values");
  return round_to(x, step, zero, bits);
}

Tensor fake_quant_clusters(const Tensor& x, const ClusterLayout& layout, const ClusterGrid& grid) {
  if (grid.identity()) return x;
  const c10::NoGradGuard no_grad;
  check_values(x, layout.channels());
  if (x.numel() == 0) return x.clone();
  const auto [step, zero] = cluster_step_and_zero(cluster_range(x, layout), grid);
  return round_to(x, spread(step, layout), spread(zero, layout), grid.bits);
}

Tensor fake_quant_probabilities(const Tensor& p) {
  const c10::NoGradGuard no_grad;
  check_values(p, p.size(-1));
  return (p * 255).round_().div_(divisor(255, p));
}

QuantizedWeight quantize_weight_clusters(const Tensor& weight, const ClusterLayout& layout,
                                         const ClusterGrid& grid) {
  const c10::NoGradGuard no_grad;
  expect(weight.dim() == 2 && weight.numel() > 0, "a weight is [O, I] and not empty");
  check_values(weight, layout.channels());
  ClusterGrid own = grid;
  own.range_floor = 0;
  const auto [step, zero] = cluster_step_and_zero(cluster_range(weight, layout), own);
  const double half = half_of(grid.bits);
  const Tensor unsigned_zero = zero + half;
  const Tensor codes = (weight / spread(step, layout))
                           .round_()
                           .add_(spread(unsigned_zero, layout))
                           .clamp_(0, 2 * half - 1)
                           .nan_to_num_(0.0);  // of no use, but must be integers
  return {codes.to(at::kInt), step, unsigned_zero};
}

}  // namespace lrq::quant

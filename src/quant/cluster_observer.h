#pragma once

#include <ATen/core/Tensor.h>

#include "src/quant/cluster_quant.h"

namespace lrq::quant {

/// How the ranges of several samples become one.
enum class RangeRule {
  kMinMax,  ///< the extrema over all samples, in any order
  kEma,     ///< first sample as is, then 0.99 * before + 0.01 * sample, in sample order
};

/// Collect the static range of each cluster of an activation.
///   kEma:  M <- 0.99 M + 0.01 max over the cluster's channels and the sample's tokens; m likewise
/// Source: RPTQ (Yuan et al. 2023), whose code uses kEma.
class ClusterObserver {
 public:
  ClusterObserver(ClusterLayout layout, RangeRule rule);

  /// x [1, T, C] or [T, C]: one sample, channels in the layout's order; call in sample order.
  /// Throws BugError on other shapes.  Threads: one at a time.
  void observe(const at::Tensor& x) { add(range_of(x)); }

  /// The extrema of one sample in each cluster, [g] float32 (float64 if the sample is), and taking
  /// them in, in sample order: where ranks share the samples.
  [[nodiscard]] ClusterRange range_of(const at::Tensor& x) const;
  void add(const ClusterRange& now);

  /// [g], undefined before the first sample.
  [[nodiscard]] const ClusterRange& range() const { return range_; }

 private:
  ClusterLayout layout_;
  RangeRule rule_;
  ClusterRange range_;
};

/// Collect the extrema of each channel: what kmeans() clusters.  Exact in any order.
class ChannelRangeObserver {
 public:
  /// x [1, T, C] or [T, C]: one sample.  Threads: one at a time.
  void observe(const at::Tensor& x);

  /// [C] float32 (float64 if the samples are), undefined before the first sample.
  [[nodiscard]] const ClusterRange& range() const { return range_; }

 private:
  ClusterRange range_;
};

}  // namespace lrq::quant

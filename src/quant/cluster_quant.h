#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/quant/fake_quant.h"
#include "src/quant/grid.h"

namespace lrq::quant {

/// Which cluster each of C neighbouring channels belongs to, as runs from left to right.  A cluster
/// may have several runs: a cluster of rotary pairs has one in each half of its head.
struct ClusterLayout {
  struct Run {
    std::int64_t cluster;   ///< 0 .. clusters() - 1
    std::int64_t channels;  ///< its length, 1 and more
    friend bool operator==(const Run&, const Run&) = default;
  };
  std::vector<Run> runs;

  /// Cluster k is the next counts[k] channels.
  [[nodiscard]] static ClusterLayout contiguous(const std::vector<std::int64_t>& counts);
  /// One head after the other; its pairs counted by cluster, once for each half.
  [[nodiscard]] static ClusterLayout paired(const std::vector<std::vector<std::int64_t>>& heads);

  [[nodiscard]] std::int64_t clusters() const;
  [[nodiscard]] std::int64_t channels() const;
  /// The cluster of each channel [C] int64: gptq()'s column_group.
  [[nodiscard]] at::Tensor column_group(at::Device device) const;
  friend bool operator==(const ClusterLayout&, const ClusterLayout&) = default;
};

/// How a cluster's range is divided.
enum class ClusterLevels {
  kAll,      ///< into 2^b - 1 steps: both ends are levels
  kOneMore,  ///< into 2^b: the largest value loses up to a step, as RPTQ's code does
};

/// Where the levels of a cluster's quantizer lie.  A value, copied freely.
struct ClusterGrid {
  int bits = 16;  ///< 2 .. 16; 16 and more is the identity
  ClusterLevels levels = ClusterLevels::kAll;
  double range_floor = 1.0 / 256;  ///< least range of an activation's cluster, as a part of the
                                   ///< tensor's range; 0 = none
  [[nodiscard]] bool identity() const { return bits >= 16; }
};

/// Lowest and highest value, [..., g].
struct ClusterRange {
  at::Tensor low;
  at::Tensor high;
};

/// Take the extrema of each cluster along the last axis.  x [..., C].  Returns [..., g].
[[nodiscard]] ClusterRange cluster_range(const at::Tensor& x, const ClusterLayout& layout);

/// Give each channel what its cluster has.  per_cluster [..., g].  Returns [..., C].
[[nodiscard]] at::Tensor spread(const at::Tensor& per_cluster, const ClusterLayout& layout);

/// Compute step and zero point of cluster ranges, for signed codes -2^(b-1) .. 2^(b-1) - 1.
///   floor:     a range below range_floor * (max high - min low over the last axis) is widened to
///              that around its middle
///   kAll:      s = clamp((high - low) / (2^b - 1), 1e-4, 1e4),
///              z = round(clamp(-2^(b-1) - low / s, -1e4, 1e4))
///   kOneMore:  s = clamp((high - low) * 2^-b, 1e-4, 1e4),
///              z = round(clamp((high + low) * (-0.5 / s), -1e4, 1e4))
/// Source: RPTQ (Yuan et al. 2023).  Differs: its code knows kOneMore without floor alone.
/// range [..., g] float32 or float64.  Returns [..., g], same dtype.  Threads: any.
[[nodiscard]] StepAndZero cluster_step_and_zero(const ClusterRange& range, const ClusterGrid& grid);

/// Quantize and dequantize each channel on its own step:
///   q = clamp(round(x / step) + zero, -2^(b-1), 2^(b-1) - 1),  result = (q - zero) * step
/// x [..., C] float32 or float64; step, zero [C], same dtype and device.  No gradient.
/// Returns the same shape, newly allocated; x itself where bits >= 16.  Threads: any.
[[nodiscard]] at::Tensor fake_quant_static(const at::Tensor& x, const at::Tensor& step,
                                           const at::Tensor& zero, int bits);

/// Quantize and dequantize each token and cluster on the range it has in x.  x [..., C].
[[nodiscard]] at::Tensor fake_quant_clusters(const at::Tensor& x, const ClusterLayout& layout,
                                             const ClusterGrid& grid);

/// Quantize and dequantize probabilities on the fixed levels k / 255: round(255 p) / 255, ties to
/// even.  p in [0, 1], float32 or float64.  Source: RPTQ.
[[nodiscard]] at::Tensor fake_quant_probabilities(const at::Tensor& p);

/// Quantize a weight with a range for each row and cluster of inputs.
/// grid.range_floor does not apply: a narrow range is a weight's own, not a sample's.
/// weight [O, I] float32 or float64, columns in the layout's order.
/// Returns codes 0 .. 2^b - 1 and, for them, step and zero [O, g] as gptq() takes them together
/// with layout.column_group().  Source: RPTQ.  Threads: any.
[[nodiscard]] QuantizedWeight quantize_weight_clusters(const at::Tensor& weight,
                                                       const ClusterLayout& layout,
                                                       const ClusterGrid& grid);

}  // namespace lrq::quant

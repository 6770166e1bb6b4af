#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace lrq::quant {

/// How points are clustered.  A value, copied freely.
struct KMeansOptions {
  int restarts = 10;             ///< the lowest inertia wins, the first of equal ones
  int iterations = 300;          ///< Lloyd's, at most
  double tolerance = 1e-4;       ///< stop when centres move less, in squares, than this x variance
  std::int64_t min_cluster = 1;  ///< merge clusters that have fewer members
};

/// A partition of n points.  Clusters are numbered by their first members: equal partitions have
/// equal labels.
struct Clusters {
  at::Tensor labels;   ///< [n] int64, 0 .. g' - 1
  at::Tensor centres;  ///< [g', d] float64, mean of each cluster's members
  double inertia;      ///< sum of squared distances to the centres
};

/// Cluster points by k-means: each restart seeds by k-means++ and iterates Lloyd's two steps.
///   seed:    centre 0 uniform, centre k a point with probability D^2 / sum D^2, D its distance to
///            the nearest centre before; restart r draws from a CPU generator of its own, seeded
///            with splitmix64(key ^ r), r = 0 ..
///   step:    label = the nearest centre, the lower index of equal ones; an empty cluster takes the
///            point farthest from its centre (the first of equal ones); centre = mean
///   stop:    labels stay, or sum of squared centre shifts <= tolerance * mean variance
///   merge:   while the smallest cluster (the first of equal ones) has fewer than min_cluster
///            members, it joins the one with the nearest centre, whose mean is taken again
/// Source: Lloyd 1982; k-means++ (Arthur and Vassilvitskii 2007), as RPTQ (Yuan et al. 2023) uses.
/// Differs: scikit-learn, which the published code calls, seeds greedily among several draws and
/// numbers clusters as they come; merging is ours.
/// points [n, d], any floating dtype and device; computed in float64 in plain C++ on the CPU, so
/// neither threads nor device change a label.
/// clusters: g; there are fewer where distinct points are fewer, or after merging.
/// key: draw_key(seed, {block, site, head}).
/// Returns tensors on the points' device.
/// Throws BugError on shapes, NumericError on points that are not finite.  Threads: any.
[[nodiscard]] Clusters kmeans(const at::Tensor& points, std::int64_t clusters, std::uint64_t key,
                              const KMeansOptions& options = {});

/// Iterate Lloyd's steps from given centres [g, d], then merge, as one restart of kmeans() does;
/// options.restarts is ignored.
[[nodiscard]] Clusters lloyd(const at::Tensor& points, const at::Tensor& centres,
                             const KMeansOptions& options = {});

/// Sort points by one number and cut them in `clusters` parts of equal size: the point at place p
/// of the stable order goes to part p * clusters / n.  Renumbered by first member.
/// Source: Bondarenko et al. 2021, range-based permutation.  sizes [n].  Returns [n] int64.
[[nodiscard]] at::Tensor equal_clusters(const at::Tensor& sizes, std::int64_t clusters);

/// The order in which every cluster is contiguous.
struct ClusterOrder {
  at::Tensor idx;                    ///< [n] int64: position p holds point idx[p]
  std::vector<std::int64_t> counts;  ///< members of each cluster
};

/// Order points by label, members of a cluster in their own order (stable).
/// labels [n] int64, 0 .. g - 1.  Returns idx on the labels' device.
[[nodiscard]] ClusterOrder cluster_order(const at::Tensor& labels);

}  // namespace lrq::quant

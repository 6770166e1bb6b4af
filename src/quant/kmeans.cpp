#include "src/quant/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/base/draw_key.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::quant {
namespace {

using at::Tensor;
using Index = std::size_t;

// Rows of numbers in one piece of memory.
struct Rows {
  std::vector<double> numbers;
  Index width = 0;

  [[nodiscard]] Index size() const { return numbers.size() / width; }
  [[nodiscard]] const double* operator[](Index row) const { return &numbers[row * width]; }
  [[nodiscard]] double* operator[](Index row) { return &numbers[row * width]; }
};

struct Partition {
  std::vector<Index> labels;
  Rows centres;
  double inertia = std::numeric_limits<double>::infinity();
};

double distance(const double* a, const double* b, Index width) {
  double sum = 0;
  for (Index i = 0; i < width; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

Rows rows_of(const Tensor& points) {
  const Tensor copy = points.to(at::kCPU, at::kDouble).contiguous();
  const double* const first = copy.const_data_ptr<double>();
  return {{first, first + copy.numel()}, static_cast<Index>(copy.size(1))};
}

// k-means++ with one number in [0, 1) for each centre.
Rows seed(const Rows& points, Index clusters, const double* uniform) {
  Rows centres{{}, points.width};
  std::vector<double> nearest(points.size(), std::numeric_limits<double>::infinity());
  const auto size = static_cast<double>(points.size());
  Index chosen = std::min(static_cast<Index>(uniform[0] * size), points.size() - 1);
  for (Index k = 0; k < clusters; ++k) {
    if (k > 0) {
      double total = 0;
      for (const double d : nearest) total += d;
      const double target = uniform[k] * total;
      double passed = 0;
      for (chosen = 0; chosen + 1 < points.size(); ++chosen) {
        passed += nearest[chosen];
        if (passed > target) break;
      }
    }
    centres.numbers.insert(centres.numbers.end(), points[chosen], points[chosen] + points.width);
    for (Index i = 0; i < points.size(); ++i) {
      nearest[i] = std::min(nearest[i], distance(points[i], points[chosen], points.width));
    }
  }
  return centres;
}

// Label every point; its squared distance to the centre.
std::vector<double> assign(const Rows& points, const Rows& centres, std::vector<Index>& labels) {
  std::vector<double> distances(points.size(), std::numeric_limits<double>::infinity());
  labels.assign(points.size(), 0);
  for (Index i = 0; i < points.size(); ++i) {
    for (Index k = 0; k < centres.size(); ++k) {
      const double d = distance(points[i], centres[k], points.width);
      if (d < distances[i]) {
        distances[i] = d;
        labels[i] = k;
      }
    }
  }
  return distances;
}

std::vector<Index> counts_of(const std::vector<Index>& labels, Index clusters) {
  std::vector<Index> counts(clusters, 0);
  for (const Index label : labels) ++counts[label];
  return counts;
}

// Give every empty cluster the point farthest from its centre, of those that are off it and not
// alone in their cluster.
void fill_empty(std::vector<Index>& labels, std::vector<double>& distances, Index clusters) {
  std::vector<Index> counts = counts_of(labels, clusters);
  for (Index k = 0; k < clusters; ++k) {
    if (counts[k] > 0) continue;
    std::optional<Index> farthest;
    for (Index i = 0; i < labels.size(); ++i) {
      if (counts[labels[i]] == 1 || distances[i] <= 0) continue;
      if (!farthest || distances[i] > distances[*farthest]) farthest = i;
    }
    if (!farthest) return;
    --counts[labels[*farthest]];
    ++counts[k];
    labels[*farthest] = k;
    distances[*farthest] = 0;
  }
}

// The mean of each cluster; one without members keeps its centre.
Rows means_of(const Rows& points, const std::vector<Index>& labels, const Rows& before) {
  const std::vector<Index> counts = counts_of(labels, before.size());
  Rows means{std::vector<double>(before.numbers.size(), 0.0), before.width};
  for (Index i = 0; i < points.size(); ++i) {
    for (Index j = 0; j < points.width; ++j) means[labels[i]][j] += points[i][j];
  }
  for (Index k = 0; k < counts.size(); ++k) {
    for (Index j = 0; j < points.width; ++j) {
      means[k][j] = counts[k] > 0 ? means[k][j] / static_cast<double>(counts[k]) : before[k][j];
    }
  }
  return means;
}

double inertia_of(const Rows& points, const Partition& partition) {
  double sum = 0;
  for (Index i = 0; i < points.size(); ++i) {
    sum += distance(points[i], partition.centres[partition.labels[i]], points.width);
  }
  return sum;
}

// Variance of a coordinate, averaged over the coordinates.
double mean_variance(const Rows& points) {
  const std::vector<Index> one(points.size(), 0);
  Partition all{one, means_of(points, one, {std::vector<double>(points.width, 0.0), points.width})};
  return inertia_of(points, all) / static_cast<double>(points.numbers.size());
}

Partition iterate(const Rows& points, Rows centres, const KMeansOptions& options) {
  const double tolerance = options.tolerance * mean_variance(points);
  Partition result;
  std::vector<Index> before;
  for (int i = 0; i < options.iterations; ++i) {
    std::vector<double> distances = assign(points, centres, result.labels);
    fill_empty(result.labels, distances, centres.size());
    result.centres = means_of(points, result.labels, centres);
    double shift = 0;
    for (Index k = 0; k < centres.size(); ++k) {
      shift += distance(result.centres[k], centres[k], points.width);
    }
    if (result.labels == before || shift <= tolerance) break;
    before = result.labels;
    centres = result.centres;
  }
  result.inertia = inertia_of(points, result);
  return result;
}

// Number the clusters by their first members and forget the empty ones.
void renumber(const Rows& points, Partition& partition) {
  constexpr auto kUnseen = static_cast<Index>(-1);
  std::vector<Index> number(partition.centres.size(), kUnseen);
  Rows centres{{}, points.width};
  for (Index& label : partition.labels) {
    if (number[label] == kUnseen) {
      number[label] = centres.size();
      const double* const centre = partition.centres[label];
      centres.numbers.insert(centres.numbers.end(), centre, centre + points.width);
    }
    label = number[label];
  }
  partition.centres = std::move(centres);
}

void merge_small(const Rows& points, Partition& partition, std::int64_t min_cluster) {
  while (partition.centres.size() > 1) {
    const std::vector<Index> counts = counts_of(partition.labels, partition.centres.size());
    const auto smallest = std::min_element(counts.begin(), counts.end());
    if (static_cast<std::int64_t>(*smallest) >= min_cluster) return;
    const auto from = static_cast<Index>(smallest - counts.begin());
    std::optional<Index> into;
    double nearest = 0;
    for (Index k = 0; k < counts.size(); ++k) {
      if (k == from) continue;
      const double d = distance(partition.centres[k], partition.centres[from], points.width);
      if (!into || d < nearest) {
        into = k;
        nearest = d;
      }
    }
    for (Index& label : partition.labels) {
      if (label == from) label = *into;
    }
    partition.centres = means_of(points, partition.labels, partition.centres);
    renumber(points, partition);
  }
}

Tensor tensor_of(const std::vector<Index>& labels, at::Device device) {
  Tensor result =
      at::empty({static_cast<std::int64_t>(labels.size())}, at::device(at::kCPU).dtype(at::kLong));
  std::transform(labels.begin(), labels.end(), result.mutable_data_ptr<std::int64_t>(),
                 [](Index label) { return static_cast<std::int64_t>(label); });
  return result.to(device);
}

Clusters finished(const Tensor& points, const Rows& rows, Partition partition,
                  const KMeansOptions& options) {
  renumber(rows, partition);
  merge_small(rows, partition, options.min_cluster);
  const Tensor centres =
      at::tensor(partition.centres.numbers, at::device(at::kCPU).dtype(at::kDouble))
          .view({-1, points.size(1)});
  return {.labels = tensor_of(partition.labels, points.device()),
          .centres = centres.to(points.device()),
          .inertia = inertia_of(rows, partition)};
}

void check(const Tensor& points, std::int64_t clusters) {
  expect(points.dim() == 2 && points.numel() > 0, "points are [n, d] and not empty");
  expect(clusters > 0, "there is at least one cluster");
  if (points.isfinite().all().item<bool>()) return;
  throw NumericError({.what = concat("channel statistics that are not finite, among ",
                                     points.size(0), " channels to be clustered"),
                      .where = "k-means",
                      .fix = "look for NaN or infinity in the activations of this block"});
}

}  // namespace

Clusters kmeans(const Tensor& points, std::int64_t clusters, std::uint64_t key,
                const KMeansOptions& options) {
  const c10::NoGradGuard no_grad;
  check(points, clusters);
  expect(options.restarts > 0 && options.iterations > 0, "k-means runs at least once");
  const Rows rows = rows_of(points);
  const std::int64_t wanted = std::min(clusters, points.size(0));
  Partition best;
  for (int restart = 0; restart < options.restarts; ++restart) {
    const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(
        splitmix64(key ^ static_cast<std::uint64_t>(restart)));
    const Tensor uniform = at::rand({wanted}, generator, at::device(at::kCPU).dtype(at::kDouble));
    Rows centres = seed(rows, static_cast<Index>(wanted), uniform.const_data_ptr<double>());
    Partition found = iterate(rows, std::move(centres), options);
    if (found.inertia < best.inertia) best = std::move(found);
  }
  return finished(points, rows, std::move(best), options);
}

Clusters lloyd(const Tensor& points, const Tensor& centres, const KMeansOptions& options) {
  const c10::NoGradGuard no_grad;
  expect(centres.dim() == 2 && centres.size(0) > 0, "centres are [g, d] and not empty");
  check(points, centres.size(0));
  expect(centres.size(1) == points.size(1), "points and centres have one width");
  expect(options.iterations > 0, "k-means runs at least once");
  const Rows rows = rows_of(points);
  return finished(points, rows, iterate(rows, rows_of(centres), options), options);
}

Tensor equal_clusters(const Tensor& sizes, std::int64_t clusters) {
  const c10::NoGradGuard no_grad;
  expect(sizes.dim() == 1 && sizes.numel() > 0 && clusters > 0, "sizes are [n] and not empty");
  const Tensor order = at::argsort(sizes.to(at::kCPU), /*stable=*/true).contiguous();
  const auto count = static_cast<Index>(sizes.size(0));
  const auto parts = std::min(static_cast<Index>(clusters), count);
  Partition partition{std::vector<Index>(count, 0), {std::vector<double>(parts, 0.0), 1}};
  for (Index place = 0; place < count; ++place) {
    const std::int64_t point = order.const_data_ptr<std::int64_t>()[place];
    partition.labels[static_cast<Index>(point)] = place * parts / count;
  }
  renumber({std::vector<double>(count, 0.0), 1}, partition);
  return tensor_of(partition.labels, sizes.device());
}

ClusterOrder cluster_order(const Tensor& labels) {
  const c10::NoGradGuard no_grad;
  expect(labels.dim() == 1 && labels.numel() > 0 && labels.scalar_type() == at::kLong,
         "labels are [n] int64 and not empty");
  const Tensor counts = at::bincount(labels.to(at::kCPU)).contiguous();
  const std::int64_t* const first = counts.const_data_ptr<std::int64_t>();
  return {.idx = at::argsort(labels, /*stable=*/true), .counts = {first, first + counts.numel()}};
}

}  // namespace lrq::quant

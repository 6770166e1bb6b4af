// Clusters by the specification's vectors 9.1 and 9.6, by hand, and against all partitions.
#include "src/quant/kmeans.h"

#include <limits>
#include <vector>

#include "src/base/draw_key.h"
#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;
using Counts = std::vector<std::int64_t>;

const Matrix kPoints = {{1.0, -1.0}, {10.0, -0.5}, {1.2, -1.1},
                        {0.8, -0.9}, {9.5, -0.4},  {4.0, -8.0}};

at::Tensor indices(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

at::Tensor line(const Values& values) { return vector_of(values, at::kDouble).unsqueeze(1); }

void expect_indices(const at::Tensor& actual, const std::vector<std::int64_t>& expected) {
  EXPECT_TRUE(at::equal(actual, indices(expected))) << actual;
}

// The lowest inertia of all labellings of few points with g labels.
double best_inertia(const at::Tensor& points, std::int64_t clusters) {
  const std::int64_t n = points.size(0);
  double best = std::numeric_limits<double>::infinity();
  std::int64_t labellings = 1;
  for (std::int64_t i = 0; i < n; ++i) labellings *= clusters;
  for (std::int64_t code = 0; code < labellings; ++code) {
    std::vector<std::vector<std::int64_t>> members(static_cast<std::size_t>(clusters));
    for (std::int64_t i = 0, rest = code; i < n; ++i, rest /= clusters) {
      members[static_cast<std::size_t>(rest % clusters)].push_back(i);
    }
    double sum = 0;
    for (const auto& cluster : members) {
      if (cluster.empty()) continue;
      const at::Tensor chosen = points.index_select(0, indices(cluster));
      sum += (chosen - chosen.mean(0, /*keepdim=*/true)).square().sum().item<double>();
    }
    best = std::min(best, sum);
  }
  return best;
}

TEST(KMeansTest, GivesVector91ForEverySeed) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Clusters found = kmeans(matrix_of(kPoints, at::kDouble), 3, draw_key(seed, {0, 0, 0}));
    expect_indices(found.labels, {0, 1, 0, 0, 1, 2});
    expect_close(found.centres, matrix_of({{1, -1}, {9.75, -0.45}, {4, -8}}), 0, 1e-6);
    EXPECT_NEAR(found.inertia, 0.23, 1e-9);
    const ClusterOrder order = cluster_order(found.labels);
    expect_indices(order.idx, {0, 2, 3, 1, 4, 5});
    EXPECT_EQ(order.counts, (Counts{3, 2, 1}));
  }
}

TEST(KMeansTest, OneStepFromChannels0And1And5GivesTheLabelsOfVector91) {
  const at::Tensor points = matrix_of(kPoints, at::kDouble);
  const at::Tensor centres = points.index_select(0, indices({0, 1, 5}));
  expect_indices(lloyd(points, centres, {.iterations = 1}).labels, {0, 1, 0, 0, 1, 2});
}

TEST(KMeansTest, GivesTheHeadsOfVector96) {
  const at::Tensor high = vector_of({1, 8, 1.1, 7.9, 5, 0.5, 5.2, 0.4}, at::kDouble);
  const at::Tensor points = at::stack({high, -high}, 1);
  for (std::int64_t head = 0; head < 2; ++head) {
    const Clusters found = kmeans(points.slice(0, 4 * head, 4 * head + 4), 2, 1);
    expect_indices(cluster_order(found.labels).idx, {0, 2, 1, 3});
  }
  // grouped queries: the maxima of both query heads side by side
  const at::Tensor first = vector_of({1, 8, 1.1, 7.9}, at::kDouble);
  const at::Tensor second = vector_of({1.2, 6, 0.9, 6.5}, at::kDouble);
  expect_indices(kmeans(at::stack({first, -first, second, -second}, 1), 2, 1).labels, {0, 1, 0, 1});
}

TEST(KMeansTest, FindsTheBestOfAllPartitionsOfFewPoints) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const at::Tensor points = random({6, 2}, seed, at::kDouble);
    const Clusters found = kmeans(points, 3, draw_key(seed, {0, 0, 0}));
    EXPECT_NEAR(found.inertia, best_inertia(points, 3), 1e-9) << "seed " << seed;
  }
}

TEST(KMeansTest, EveryPointOfALargeSetIsNearestToItsOwnCentre) {
  const at::Tensor points = random({500, 2}, 4, at::kDouble);
  const Clusters found = kmeans(points, 8, 3, {.tolerance = 0});
  EXPECT_TRUE(at::equal(at::cdist(points, found.centres).argmin(1), found.labels));
  for (std::int64_t k = 0; k < 8; ++k) {
    const at::Tensor members = points.index_select(0, found.labels.eq(k).nonzero().squeeze(1));
    expect_close(found.centres[k], members.mean(0), 1e-12, 1e-12);
  }
}

TEST(KMeansTest, OneKeyGivesOnePartition) {
  const at::Tensor points = random({300, 4}, 4);
  const Clusters first = kmeans(points, 16, 3, {.restarts = 1});
  EXPECT_TRUE(at::equal(kmeans(points, 16, 3, {.restarts = 1}).labels, first.labels));
  EXPECT_FALSE(at::equal(kmeans(points, 16, 4, {.restarts = 1}).labels, first.labels));
}

TEST(KMeansTest, MoreRestartsAreNeverWorse) {
  const at::Tensor points = random({200, 2}, 8, at::kDouble);
  double before = std::numeric_limits<double>::infinity();
  for (const int restarts : {1, 2, 5, 10}) {
    const double inertia = kmeans(points, 12, 5, {.restarts = restarts}).inertia;
    EXPECT_LE(inertia, before);
    before = inertia;
  }
}

TEST(KMeansTest, AnEmptyClusterTakesTheFarthestPointThatIsNotAlone) {
  // all points are nearest to 0; the second centre gets 11, the third 10
  const Clusters far = lloyd(line({0, 1, 10, 11}), line({0, 100, 100}));
  expect_indices(far.labels, {0, 0, 1, 2});
  expect_close(far.centres, matrix_of({{0.5}, {10}, {11}}), 0, 1e-12);
  // 50 is the farthest but alone with the second centre; of 0 and 1 the first goes to the third
  expect_indices(lloyd(line({0, 1, 50}), line({0.5, 60, 1000}), {.iterations = 1}).labels,
                 {0, 1, 2});
}

TEST(KMeansTest, APointBetweenTwoCentresBelongsToTheFirst) {
  expect_indices(lloyd(line({0, 1, 2}), line({0, 2}), {.iterations = 1}).labels, {0, 0, 1});
  expect_indices(lloyd(line({0, 1, 2}), line({2, 0}), {.iterations = 1}).labels, {0, 1, 1});
}

TEST(KMeansTest, HasFewerClustersWhereDistinctPointsAreFewer) {
  const Clusters found = kmeans(line({5, 0, 5, 0, 0}), 4, 1);
  expect_indices(found.labels, {0, 1, 0, 1, 1});
  EXPECT_EQ(found.inertia, 0);
  expect_indices(kmeans(line({3, 1}), 32, 1).labels, {0, 1});
}

TEST(KMeansTest, SmallClustersJoinTheNearestOnes) {
  const at::Tensor points = line({0, 1, 2, 30, 10, 11, 12});
  expect_indices(kmeans(points, 3, 1).labels, {0, 0, 0, 1, 2, 2, 2});
  const Clusters merged = kmeans(points, 3, 1, {.min_cluster = 2});
  expect_indices(merged.labels, {0, 0, 0, 1, 1, 1, 1});
  expect_close(merged.centres, matrix_of({{1}, {15.75}}), 0, 1e-6);
  EXPECT_NEAR(merged.inertia, 2 + 272.75, 1e-9);  // 5.75^2 + 4.75^2 + 3.75^2 + 14.25^2 = 272.75
  // both have fewer than 5: the smallest, 0 1 2, joins the rest
  expect_indices(kmeans(points, 3, 1, {.min_cluster = 5}).labels, {0, 0, 0, 0, 0, 0, 0});
  expect_indices(kmeans(points, 3, 1, {.min_cluster = 8}).labels, {0, 0, 0, 0, 0, 0, 0});
}

TEST(KMeansTest, RefusesPointsThatAreNotFinite) {
  EXPECT_THROW((void)kmeans(line({0, std::numeric_limits<double>::infinity()}), 2, 1),
               NumericError);
  EXPECT_THROW((void)kmeans(vector_of({1, 2}), 2, 1), BugError);
}

TEST(EqualClustersTest, CutsTheOrderOfSizesInEqualParts) {
  // order of sizes: 1 (0.1), 3 (0.2), 0 (0.5), 4 (2), 5 (2), 2 (9)
  const at::Tensor sizes = vector_of({0.5, 0.1, 9, 0.2, 2, 2});
  expect_indices(equal_clusters(sizes, 3), {0, 1, 2, 1, 0, 2});
  expect_indices(equal_clusters(sizes, 1), {0, 0, 0, 0, 0, 0});
  expect_indices(equal_clusters(sizes, 9), {0, 1, 2, 3, 4, 5});
}

TEST(ClusterOrderTest, IsStableInsideAClusterAndCountsEmptyOnes) {
  const ClusterOrder order = cluster_order(indices({2, 0, 2, 0, 0}));
  expect_indices(order.idx, {1, 3, 4, 0, 2});
  EXPECT_EQ(order.counts, (Counts{3, 0, 2}));
}

}  // namespace
}  // namespace lrq::quant

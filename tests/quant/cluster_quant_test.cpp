// Clustered quantizers by the specification's vectors 9.2 to 9.6, by hand, and against the formula
// written out for one range in plain C++.
#include "src/quant/cluster_quant.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/quant/cluster_observer.h"
#include "src/quant/gptq.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;
using Counts = std::vector<std::int64_t>;

constexpr double kExact = 1e-9;

// As the published code has it.
ClusterGrid published(int bits) {
  return {.bits = bits, .levels = ClusterLevels::kOneMore, .range_floor = 0};
}

at::Tensor doubles(const Values& values) { return vector_of(values, at::kDouble); }
at::Tensor double_rows(const Matrix& rows) { return matrix_of(rows, at::kDouble); }

void expect_exact(const at::Tensor& actual, const at::Tensor& expected) {
  expect_close(actual, expected, 0, kExact);
}

// One range in plain C++.
double round_one(double x, double low, double high, const ClusterGrid& grid) {
  const double half = std::exp2(grid.bits - 1);
  const bool all = grid.levels == ClusterLevels::kAll;
  const double s = std::clamp((high - low) / (all ? 2 * half - 1 : 2 * half), 1e-4, 1e4);
  const double free_zero = all ? -half - low / s : (high + low) * -0.5 / s;
  const double z = std::nearbyint(std::clamp(free_zero, -1e4, 1e4));
  return (std::clamp(std::nearbyint(x / s) + z, -half, half - 1) - z) * s;
}

at::Tensor round_static(const at::Tensor& x, const ClusterRange& range, const ClusterLayout& layout,
                        const ClusterGrid& grid) {
  const auto [step, zero] = cluster_step_and_zero(range, grid);
  return fake_quant_static(x, spread(step, layout), spread(zero, layout), grid.bits);
}

struct GridVector {
  std::string name;
  ClusterGrid grid;
  double low;
  double high;
  double step;
  double zero;
  Values x;
  Values result;
};

std::vector<GridVector> grid_vectors() {
  return {
      {"2^b - 1 steps, 4 bits",
       {.bits = 4},
       -1,
       3,
       4.0 / 15,
       -4,
       {-1, 0, 0.25, 0.9, 2.99, 3},
       {-16.0 / 15, 0, 4.0 / 15, 0.8, 44.0 / 15, 44.0 / 15}},
      {"2^b steps, 4 bits",
       published(4),
       -1,
       3,
       0.25,
       -4,
       {-1, 0, 0.25, 0.9, 2.99, 3},
       {-1, 0, 0.25, 1, 2.75, 2.75}},
      {"2^b steps, 3 bits", published(3), 0, 2, 0.25, -4, {0, 0.2, 1, 2}, {0, 0.25, 1, 1.75}},
      {"2^b steps from 0",
       published(4),
       0,
       4,
       0.25,
       -8,
       {0, 0.1, 1.3, 3.9, 4},
       {0, 0, 1.25, 3.75, 3.75}},
  };
}

TEST(ClusterGridTest, GivesVector93) {
  for (const GridVector& v : grid_vectors()) {
    SCOPED_TRACE(v.name);
    const ClusterRange range = {.low = doubles({v.low}), .high = doubles({v.high})};
    const auto [step, zero] = cluster_step_and_zero(range, v.grid);
    expect_exact(step, doubles({v.step}));
    expect_exact(zero, doubles({v.zero}));
    const auto layout = ClusterLayout::contiguous({static_cast<std::int64_t>(v.x.size())});
    expect_exact(round_static(doubles(v.x), range, layout, v.grid), doubles(v.result));
  }
}

TEST(ClusterGridTest, GivesVector92) {
  const auto layout = ClusterLayout::contiguous({3, 2, 1});
  ClusterObserver observer(layout, RangeRule::kMinMax);
  observer.observe(double_rows({{1, 1.2, 0.8, 10, 9.5, 4}, {-1, -1.1, -0.9, -0.5, -0.4, -8}}));
  const ClusterRange& range = observer.range();
  expect_exact(range.low, doubles({-1.1, -0.5, -8}));
  expect_exact(range.high, doubles({1.2, 10, 4}));
  const auto [step, zero] = cluster_step_and_zero(range, published(4));
  expect_exact(step, doubles({0.14375, 0.65625, 0.75}));
  expect_exact(zero, doubles({0, -7, 3}));
  const at::Tensor x = doubles({0.7, -1.05, 0.3, 9.0, -0.2, -5.0});
  const at::Tensor rounded = round_static(x, range, layout, published(4));
  expect_exact(rounded, doubles({0.71875, -1.00625, 0.2875, 9.1875, 0, -5.25}));
  EXPECT_NEAR((rounded - x).square().mean().item<double>(), 0.02334635, 5e-9);
  const at::Tensor original = doubles({0.7, 9, -1.05, 0.3, -0.2, -5});
  const at::Tensor plain = round_static(original, {doubles({-8}), doubles({10})},
                                        ClusterLayout::contiguous({6}), published(4));
  expect_exact(plain, doubles({1.125, 9, -1.125, 0, 0, -4.5}));
  EXPECT_NEAR((plain - original).square().mean().item<double>(), 0.094375, kExact);
}

TEST(ClusterGridTest, OneClusterIsPerTensorAndLoneChannelsArePerChannel) {
  const at::Tensor x = random({1, 40, 6}, 3, at::kDouble) * doubles({1, 5, 0.1, 2, 9, 0.01});
  for (const ClusterGrid& grid : {published(4), ClusterGrid{.bits = 3, .range_floor = 0}}) {
    for (const bool alone : {false, true}) {
      const auto layout = ClusterLayout::contiguous(alone ? Counts(6, 1) : Counts{6});
      ClusterObserver observer(layout, RangeRule::kMinMax);
      observer.observe(x);
      const at::Tensor rounded = round_static(x, observer.range(), layout, grid);
      const at::Tensor low = alone ? x.amin({0, 1}) : x.min().expand({6});
      const at::Tensor high = alone ? x.amax({0, 1}) : x.max().expand({6});
      for (std::int64_t t = 0; t < 40; ++t) {
        for (std::int64_t c = 0; c < 6; ++c) {
          const double expected = round_one(x[0][t][c].item<double>(), low[c].item<double>(),
                                            high[c].item<double>(), grid);
          EXPECT_NEAR(rounded[0][t][c].item<double>(), expected, kExact);
        }
      }
    }
  }
}

TEST(ClusterGridTest, ANarrowRangeIsWidenedAroundItsMiddle) {
  // whole range 2.1; the second cluster has none, so it gets 2.1 / 256 = 0.008203125 around 0.3
  const ClusterRange range = {.low = doubles({-1.1, 0.3}), .high = doubles({1, 0.3})};
  const auto [step, zero] = cluster_step_and_zero(range, {.bits = 4});
  expect_exact(step, doubles({0.14, 0.000546875}));
  expect_exact(zero, doubles({0, -549}));  // -8 + 7.857, -8 - 0.2958984375 / 0.000546875
  const auto [narrow, unmoved] = cluster_step_and_zero(range, {.bits = 4, .range_floor = 0});
  expect_exact(narrow, doubles({0.14, 1e-4}));
  expect_exact(unmoved, doubles({0, -3008}));
}

TEST(ClusterGridTest, SixteenBitsAreTheIdentity) {
  const at::Tensor x = random({2, 3}, 1);
  EXPECT_TRUE(fake_quant_static(x, at::ones({3}), at::zeros({3}), 16).is_same(x));
  EXPECT_TRUE(fake_quant_clusters(x, ClusterLayout::contiguous({3}), {}).is_same(x));
}

TEST(ClusterGridTest, ATokensOwnRangesRoundItAsThatTokenAlone) {
  const auto layout = ClusterLayout::contiguous({3, 2, 1});
  const at::Tensor x = random({1, 5, 6}, 9, at::kDouble);
  const at::Tensor rounded = fake_quant_clusters(x, layout, {.bits = 4});
  for (std::int64_t t = 0; t < 5; ++t) {
    const at::Tensor token = x[0][t];
    EXPECT_TRUE(at::equal(rounded[0][t],
                          round_static(token, cluster_range(token, layout), layout, {.bits = 4})));
  }
}

TEST(ClusterGridTest, RefusesValuesOfAnotherWidth) {
  EXPECT_THROW((void)fake_quant_static(at::ones({2, 4}), at::ones({3}), at::zeros({3}), 4),
               BugError);
  EXPECT_THROW((void)cluster_range(at::ones({4}), ClusterLayout::contiguous({3})), BugError);
  EXPECT_THROW((void)ClusterLayout::contiguous({3, 0}), BugError);
}

TEST(ClusterLayoutTest, PairsOfAHeadShareAClusterInBothHalves) {
  const auto layout = ClusterLayout::paired({{2, 2}, {1, 3}});
  EXPECT_EQ(layout.clusters(), 4);
  EXPECT_EQ(layout.channels(), 16);
  EXPECT_TRUE(at::equal(layout.column_group(at::kCPU),
                        at::tensor({0, 0, 1, 1, 0, 0, 1, 1, 2, 3, 3, 3, 2, 3, 3, 3}, at::kLong)));
  const ClusterRange range =
      cluster_range(doubles({1, 2, 3, 4, 5, 0, -1, 3}), ClusterLayout::paired({{2, 2}}));
  expect_exact(range.low, doubles({0, -1}));
  expect_exact(range.high, doubles({5, 4}));
}

TEST(ClusterObserverTest, AveragesClustersAsVector94Says) {
  ClusterObserver observer(ClusterLayout::contiguous({2, 2}), RangeRule::kEma);
  const Matrix maxima = {{1, 3, 8, 6}, {2, 1, 10, 4}, {0, 5, 7, 9}};
  const Matrix expected = {{3, 8}, {2.99, 8.02}, {3.0101, 8.0298}};
  for (std::size_t i = 0; i < maxima.size(); ++i) {
    const at::Tensor high = doubles(maxima[i]);
    observer.observe(at::stack({high, -high, high * 0.5}).unsqueeze(0));
    expect_exact(observer.range().high, doubles(expected[i]));
    expect_exact(observer.range().low, -doubles(expected[i]));
  }
}

TEST(ClusterObserverTest, TheFirstOf128SamplesKeepsMoreThanAQuarter) {
  ClusterObserver observer(ClusterLayout::contiguous({1}), RangeRule::kEma);
  observer.observe(double_rows({{1}}));
  for (int i = 1; i < 128; ++i) observer.observe(double_rows({{0}}));
  EXPECT_NEAR(observer.range().high.item<double>(), 0.279042, 5e-7);
}

TEST(ClusterObserverTest, ExtremaAreThoseOfAllSamplesTogether) {
  const at::Tensor x = random({6, 7, 5}, 2);
  ClusterObserver clusters(ClusterLayout::contiguous({2, 3}), RangeRule::kMinMax);
  ChannelRangeObserver channels;
  for (std::int64_t i = 0; i < 6; ++i) {
    clusters.observe(x.narrow(0, i, 1));
    channels.observe(x[i]);
  }
  EXPECT_TRUE(at::equal(clusters.range().high,
                        at::stack({x.narrow(2, 0, 2).max(), x.narrow(2, 2, 3).max()})));
  EXPECT_TRUE(at::equal(clusters.range().low,
                        at::stack({x.narrow(2, 0, 2).min(), x.narrow(2, 2, 3).min()})));
  EXPECT_TRUE(at::equal(channels.range().high, x.amax({0, 1})));
  EXPECT_TRUE(at::equal(channels.range().low, x.amin({0, 1})));
}

TEST(ProbabilitiesTest, LieOn256FixedLevels) {
  expect_exact(fake_quant_probabilities(doubles({0.1, 0.7, 0.2})),
               doubles({26.0 / 255, 178.0 / 255, 51.0 / 255}));
  expect_vector(fake_quant_probabilities(vector_of({0.11, 0.71, 0.18})),
                doubles({28.0 / 255, 181.0 / 255, 46.0 / 255}));
}

const Matrix kWeight = {{0.9, 0.31, -0.7, -0.3, 0.12, 0.45}, {-0.2, -0.95, 0.33, 0.8, 0.6, -0.41}};

at::Tensor weight_of(const QuantizedWeight& q, const ClusterLayout& layout) {
  return (q.codes - spread(q.zero, layout)) * spread(q.step, layout);
}

TEST(ClusterWeightTest, GivesVector95) {
  const auto layout = ClusterLayout::contiguous({3, 2, 1});
  const QuantizedWeight q = quantize_weight_clusters(double_rows(kWeight), layout, published(4));
  expect_exact(q.step, double_rows({{0.1, 0.02625, 1e-4}, {0.08, 0.0125, 1e-4}}));
  expect_exact(q.zero, double_rows({{-1, 3, -4500}, {4, -56, 4100}}) + 8);
  expect_exact(q.codes.to(at::kDouble),
               double_rows({{7, 2, -8, -8, 7, 0}, {2, -8, 7, 7, -8, 0}}) + 8);
  expect_exact(weight_of(q, layout), double_rows({{0.8, 0.3, -0.7, -0.28875, 0.105, 0.45},
                                                  {-0.16, -0.96, 0.24, 0.7875, 0.6, -0.41}}));
}

TEST(ClusterWeightTest, ALoneWeightAboveOneIsCutAsVector95Says) {
  const auto layout = ClusterLayout::contiguous({1, 1});
  const at::Tensor weight = double_rows({{6, -2}});
  expect_exact(weight_of(quantize_weight_clusters(weight, layout, published(4)), layout),
               double_rows({{1.0007, -1.0008}}));
}

TEST(ClusterWeightTest, OneClusterIsTheGridOfARow) {
  const at::Tensor weight = random({4, 16}, 6, at::kDouble);
  const QuantizedWeight row = quantize_weight(weight, {}, {.bits = 4});
  const QuantizedWeight cluster =
      quantize_weight_clusters(weight, ClusterLayout::contiguous({16}), {.bits = 4});
  expect_exact(cluster.step, row.step);
  EXPECT_TRUE(at::equal(cluster.zero, row.zero));
  EXPECT_TRUE(at::equal(cluster.codes, row.codes));
}

TEST(ClusterWeightTest, GptqRoundsOnItsSteps) {
  const auto layout = ClusterLayout::contiguous({9, 4, 11});
  const at::Tensor group = layout.column_group(at::kCPU);
  double ours = 0;
  double nearest = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const at::Tensor weight = random({6, 24}, seed);
    const QuantizedWeight q = quantize_weight_clusters(weight, layout, {.bits = 3});
    const GptqResult same = gptq(weight, at::eye(24), {.bits = 3}, q.step, q.zero, {}, group);
    EXPECT_TRUE(at::equal(same.codes, q.codes));
    const at::Tensor x = at::mm(random({96, 8}, seed + 100), random({8, 24}, seed + 200)) +
                         random({96, 24}, seed + 300) * 0.1;
    const GptqResult better =
        gptq(weight, at::mm(x.t(), x), {.bits = 3}, q.step, q.zero, {}, group);
    ours += at::mm(weight - better.weight, x.t()).square().sum().item<double>();
    nearest += at::mm(weight - weight_of(q, layout), x.t()).square().sum().item<double>();
  }
  EXPECT_LT(ours, 0.7 * nearest);
}

}  // namespace
}  // namespace lrq::quant

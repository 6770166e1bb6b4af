// The quantizer by the specification's vectors A, B, F5 and H and by hand calculation; both the
// fused pass and the plain formula are held to them.
#include "src/quant/fake_quant.h"

#include <limits>
#include <string>

#include "src/base/error.h"
#include "src/quant/clipping.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const Matrix kWeight = {{-1.0, -0.25, 0.5, 0.75}, {0.1, 0.2, 0.4, 0.8}};

using WeightFunction = at::Tensor (*)(const at::Tensor&, const WeightTransform&, const Grid&);
using RowsFunction = at::Tensor (*)(const at::Tensor&, const Grid&, const RowClip&);
constexpr WeightFunction kWeightFunctions[] = {fake_quant_weight, fake_quant_weight_reference};
constexpr RowsFunction kRowsFunctions[] = {fake_quant_rows, fake_quant_rows_reference};

RowClip ratio(double value) {
  return {.upper = at::full({1}, value), .lower = at::full({1}, value)};
}

// The raw factors of the specification, brought to the range of one row each.
WeightTransform clipped(const at::Tensor& upper, const at::Tensor& lower) {
  return {.clip_upper = upper.sigmoid(), .clip_lower = lower.sigmoid()};
}

WeightTransform clipped_alike(double raw) {
  return clipped(at::full({2, 1}, raw), at::full({2, 1}, raw));
}

struct WeightVector {
  std::string name;
  Matrix weight;
  Grid grid;
  WeightTransform transform;
  Matrix step;
  Matrix zero;
  Matrix codes;
  Matrix values;
};

std::vector<WeightVector> weight_vectors() {
  return {
      {"A1",
       kWeight,
       {.bits = 3},
       {},
       {{0.25}, {0.1}},
       {{4}, {-1}},
       {{0, 3, 6, 7}, {0, 1, 3, 7}},
       {{-1, -0.25, 0.5, 0.75}, {0.1, 0.2, 0.4, 0.8}}},
      {"A2",
       kWeight,
       {.bits = 3},
       clipped_alike(kClipStart),
       {{0.24550344}, {0.09820138}},
       {{4}, {-1}},
       {{0, 3, 6, 7}, {0, 1, 3, 7}},
       {{-0.98201376, -0.24550344, 0.49100688, 0.73651034},
        {0.09820138, 0.19640276, 0.39280552, 0.78561103}}},
      {"A3",
       kWeight,
       {.bits = 3},
       clipped_alike(0),
       {{0.125}, {0.05}},
       {{4}, {-1}},
       {{0, 2, 7, 7}, {1, 3, 7, 7}},
       {{-0.5, -0.25, 0.375, 0.375}, {0.1, 0.2, 0.4, 0.4}}},
      {"A4",
       kWeight,
       {.bits = 3, .symmetric = true},
       {},
       {{0.33333334}, {0.26666668}},
       {{3}, {3}},
       {{0, 2, 5, 5}, {3, 4, 5, 6}},
       {{-1, -0.33333334, 0.6666667, 0.6666667}, {0, 0.26666668, 0.53333336, 0.8000001}}},
      {"A5",
       kWeight,
       {.bits = 3, .group_size = 2},
       {},
       {{0.10714286, 0.03571429}, {0.01428571, 0.05714286}},
       {{9, -14}, {-7, -7}},
       {{0, 7, 0, 7}, {0, 7, 0, 7}},
       {{-0.96428573, -0.21428572, 0.5, 0.75}, {0.1, 0.2, 0.4, 0.8}}},
      // Signed codes [-3,-1,2,2], [0,1,2,3] on the unsigned grid centred on 4.
      {"A6",
       kWeight,
       {.bits = 3, .symmetric = true, .zero_point = false},
       {},
       {{0.33333334}, {0.26666668}},
       {{4}, {4}},
       {{1, 3, 6, 6}, {4, 5, 6, 7}},
       {{-1, -0.33333334, 0.6666667, 0.6666667}, {0, 0.26666668, 0.53333336, 0.8000001}}},
      {"A7",
       {{0, 0, 0, 0}, {5, 5, 5, 5}},
       {.bits = 3},
       {},
       {{1e-5}, {1e-5}},
       {{0}, {-10000}},
       {{0, 0, 0, 0}, {7, 7, 7, 7}},
       {{0, 0, 0, 0}, {0.10007, 0.10007, 0.10007, 0.10007}}},
      {"A8",
       kWeight,
       {.bits = 2},
       {},
       {{0.5833333}, {0.23333333}},
       {{2}, {0}},
       {{0, 2, 3, 3}, {0, 1, 2, 3}},
       {{-1.1666666, 0, 0.5833333, 0.5833333}, {0, 0.23333333, 0.46666667, 0.7}}},
      {"F5",
       kWeight,
       {.bits = 3},
       {.column_scale = vector_of({2, 1, 0.5, 1})},
       {{0.39285713}, {0.08571429}},
       {{5}, {-2}},
       {{0, 4, 6, 7}, {0, 0, 0, 7}},
       {{-1.9642856, -0.39285713, 0.39285713, 0.7857143},
        {0.17142858, 0.17142858, 0.17142858, 0.7714286}}},
      // A last group of one value counts as padded with a zero: 0.5 / 3.
      {"shorter last group",
       {{1, -3, 0.5}},
       {.bits = 3, .symmetric = true, .zero_point = false, .group_size = 2},
       {},
       {{1, 0.16666667}},
       {{4, 4}},
       {{5, 1, 7}},
       {{1, -3, 0.5}}},
      // Without include_zero the zero point of the second row would be -1.
      {"include_zero",
       {{1, 2, 4, 7}, {-7, -4, -2, -1}},
       {.bits = 3, .include_zero = true},
       {},
       {{1}, {1}},
       {{0}, {7}},
       {{1, 2, 4, 7}, {0, 3, 5, 6}},
       {{1, 2, 4, 7}, {-7, -4, -2, -1}}},
  };
}

TEST(FakeQuantWeightTest, GivesTheValuesOfTheSpecification) {
  for (const WeightVector& vector : weight_vectors()) {
    SCOPED_TRACE(vector.name);
    for (const WeightFunction function : kWeightFunctions) {
      expect_vector(function(matrix_of(vector.weight), vector.transform, vector.grid),
                    matrix_of(vector.values));
    }
  }
}

TEST(QuantizeWeightTest, GivesTheCodesStepsAndZeroPointsOfTheSpecification) {
  for (const WeightVector& vector : weight_vectors()) {
    SCOPED_TRACE(vector.name);
    const QuantizedWeight found =
        quantize_weight(matrix_of(vector.weight), vector.transform, vector.grid);
    EXPECT_EQ(found.codes.scalar_type(), at::kInt);
    EXPECT_TRUE(at::equal(found.codes.to(at::kFloat), matrix_of(vector.codes))) << found.codes;
    EXPECT_TRUE(at::equal(found.zero, matrix_of(vector.zero))) << found.zero;
    expect_vector(found.step, matrix_of(vector.step));
  }
}

TEST(FakeQuantWeightTest, GradientOfClipFactorsMatchesVectorA3) {
  const at::Tensor weight = matrix_of(kWeight);
  for (const WeightFunction function : kWeightFunctions) {
    const at::Tensor upper = leaf(at::zeros({2, 1}));
    const at::Tensor lower = leaf(at::zeros({2, 1}));
    const at::Tensor loss =
        (function(weight, clipped(upper, lower), {.bits = 3}) - weight).square().mean();
    EXPECT_NEAR(loss.item<double>(), 0.07078125, 1e-7);
    loss.backward();
    expect_vector(upper.grad(), matrix_of({{-0.0234375}, {-0.02285714}}));
    expect_vector(lower.grad(), matrix_of({{-0.03125}, {0.00285714}}));
  }
}

TEST(FakeQuantWeightTest, EndCodesKeepTheirGradientInVectorA2) {
  for (const WeightFunction function : kWeightFunctions) {
    const at::Tensor weight = leaf(matrix_of(kWeight));
    const at::Tensor upper = leaf(at::full({2, 1}, kClipStart));
    const at::Tensor lower = leaf(at::full({2, 1}, kClipStart));
    const at::Tensor loss = function(weight, clipped(upper, lower), {.bits = 3}).square().sum();
    EXPECT_NEAR(loss.item<double>(), 2.6278567, 3e-6);
    loss.backward();
    expect_close(upper.grad(), matrix_of({{-0.00051057}, {-0.00061722}}), 0, 1e-6);
    expect_close(lower.grad(), matrix_of({{-0.00068075}, {0.00007715}}), 0, 1e-6);
    expect_close(weight.grad(),
                 matrix_of({{-1.9261789, -0.4910069, 0.9820138, 1.4351720},
                            {0.2392979, 0.3928055, 0.7856110, 1.5283269}}),
                 0, 1e-6);
  }
}

TEST(FakeQuantRowsTest, GivesValuesAndGradientOfVectorB) {
  for (const RowsFunction function : kRowsFunctions) {
    const at::Tensor x = leaf(matrix_of({{3.0, -1.5, 0.75, 0.0}, {0.2, 0.6, 1.4, 15.2}}));
    const at::Tensor y = function(x, {.bits = 4}, {});
    expect_vector(y, matrix_of({{3, -1.5, 0.6, 0}, {0, 1, 1, 15}}));
    (y[0] * vector_of({1, 2, 3, 4})).sum().backward();
    expect_close(x.grad(), matrix_of({{0.9, 2.1, 3, 4}, {0, 0, 0, 0}}), 1e-6, 1e-6);
  }
}

TEST(FakeQuantTest, RoundsHalfToEven) {
  // The last column sets the step to 1: the row's range is 15 wide.
  const Matrix row = {{0.5, 1.5, 2.5, -0.5, -1.5, 13, -2}};
  const Matrix expected = {{0, 2, 2, 0, -2, 13, -2}};
  for (const RowsFunction function : kRowsFunctions) {
    EXPECT_TRUE(at::equal(function(matrix_of(row), {.bits = 4}, {}), matrix_of(expected)));
  }
}

TEST(FakeQuantTest, IntegerProductGivesTheSameNumber) {  // vector H
  const at::Tensor weight = matrix_of(kWeight);
  const at::Tensor token = matrix_of({{3.0, -1.5, 0.75, 0.0}});
  const QuantizedWeight w = quantize_weight(weight, {}, {.bits = 3});
  const QuantizedWeight x = quantize_weight(token, {}, {.bits = 4});
  const at::Tensor product = ((w.codes[0] - w.zero[0]) * (x.codes[0] - x.zero[0])).sum();
  EXPECT_EQ(product.item<double>(), -31);
  const at::Tensor fake =
      fake_quant_weight(weight, {}, {.bits = 3})[0].dot(fake_quant_rows(token, {.bits = 4})[0]);
  EXPECT_NEAR(fake.item<double>(), -2.325, 1e-6);
}

TEST(FakeQuantRowsTest, TiedExtremaShareTheGradientEvenly) {
  for (const RowsFunction function : kRowsFunctions) {
    const at::Tensor x = leaf(matrix_of({{3, 3, 0, 1.4}}));  // step 1, d step = 3 * (1 - 1.4)
    (function(x, {.bits = 2}, {}) * vector_of({0, 0, 0, 3})).sum().backward();
    expect_close(x.grad(), matrix_of({{-0.2, -0.2, 0.4, 3}}), 1e-6, 1e-6);
  }
}

TEST(FakeQuantRowsTest, OppositeExtremaOfASymmetricRowShareTheGradientByHalves) {
  for (const RowsFunction function : kRowsFunctions) {
    const at::Tensor x = leaf(matrix_of({{-3, 3, 1.4}}));  // step 3 / 3, d step = 1 - 1.4
    const at::Tensor y = function(x, {.bits = 3, .symmetric = true}, {});
    EXPECT_TRUE(at::equal(y, matrix_of({{-3, 3, 1}}))) << y;
    (y * vector_of({0, 0, 1})).sum().backward();
    expect_close(x.grad(), matrix_of({{0.2 / 3, -0.2 / 3, 1}}), 1e-6, 1e-6);
  }
}

TEST(FakeQuantRowsTest, AWidenedBoundPassesNoGradientToTheData) {
  for (const RowsFunction function : kRowsFunctions) {
    const at::Tensor x = leaf(matrix_of({{0.5, 2, 1.2, 3}}));  // range [0, 3], step 1
    const at::Tensor y = function(x, {.bits = 2, .include_zero = true}, {});
    EXPECT_TRUE(at::equal(y, matrix_of({{0, 2, 1, 3}}))) << y;
    (y * vector_of({0, 0, 1, 0})).sum().backward();
    expect_close(x.grad(), matrix_of({{0, 0, 1, -0.2 / 3}}), 1e-6, 1e-6);
  }
}

TEST(FakeQuantTest, ARowWithANonFiniteValueComesBackAsNan) {
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    for (const bool symmetric : {false, true}) {
      Matrix rows(3, Values(21, 0.5));
      rows[0][3] = rows[2][20] = 2.0;
      rows[1][20] = bad;
      for (const RowsFunction function : kRowsFunctions) {
        const at::Tensor y = function(matrix_of(rows), {.bits = 4, .symmetric = symmetric}, {});
        EXPECT_TRUE(y[1].isnan().all().item<bool>()) << y;
        EXPECT_FALSE(y[0].isnan().any().item<bool>() || y[2].isnan().any().item<bool>()) << y;
      }
    }
  }
}

TEST(FakeQuantTest, SixteenBitsOnlyScale) {
  const at::Tensor x = matrix_of(kWeight);
  EXPECT_TRUE(fake_quant_rows(x, {.bits = 16}).is_same(x));
  EXPECT_TRUE(at::equal(fake_quant_weight(x, {}, {.bits = 16}), x));
  EXPECT_FALSE(fake_quant_weight(x, {}, {.bits = 16}).is_alias_of(x));
  const at::Tensor column = leaf(vector_of({2, 1, 4, 1}));
  const at::Tensor y =
      fake_quant_weight(x, {.column_scale = column, .row_scale = vector_of({1, 10})}, {.bits = 16});
  expect_vector(y, matrix_of({{-2, -0.25, 2, 0.75}, {2, 2, 16, 8}}));
  y.sum().backward();
  expect_vector(column.grad(), vector_of({0, 1.75, 4.5, 8.75}));
}

TEST(FakeQuantTest, AFactorOfOneIsPlainRounding) {
  const at::Tensor weight = random({8, 40}, 3);
  const WeightTransform open{.clip_upper = at::full({8, 1}, 40.0).sigmoid(),
                             .clip_lower = at::full({8, 1}, 40.0).sigmoid()};
  EXPECT_TRUE(at::equal(fake_quant_weight(weight, open, {.bits = 4}),
                        fake_quant_weight(weight, {}, {.bits = 4})));
}

TEST(FakeQuantTest, ShapesThatDoNotFitAreRefused) {
  const at::Tensor weight = random({4, 6}, 1);
  EXPECT_THROW((void)fake_quant_weight(weight, {}, {.bits = 4, .group_size = 4}), BugError);
  EXPECT_THROW((void)fake_quant_weight(weight, {.column_scale = at::ones({4})}, {.bits = 4}),
               BugError);
  EXPECT_THROW((void)fake_quant_weight(weight, {.clip_upper = at::ones({4, 1})},
                                       {.bits = 4, .group_size = 3}),
               BugError);
  EXPECT_THROW((void)quantize_weight(weight, {}, {.bits = 16}), BugError);
  EXPECT_THROW((void)fake_quant_rows(weight.to(at::kHalf), {.bits = 4}), BugError);
}

TEST(FakeQuantTest, RunsOnTheMetaDeviceInBothDirections) {
  const at::TensorOptions meta = at::TensorOptions().device(at::kMeta);
  for (const bool symmetric : {false, true}) {
    const at::Tensor x = at::empty({2, 3, 8}, meta).set_requires_grad(true);
    const at::Tensor column = at::empty({8}, meta).set_requires_grad(true);
    const at::Tensor weight = fake_quant_weight(
        at::empty({5, 8}, meta), {.column_scale = column, .clip_upper = at::empty({10, 1}, meta)},
        {.bits = 4, .symmetric = symmetric, .group_size = 4});
    fake_quant_rows(x, {.bits = 4, .symmetric = symmetric}).matmul(weight.t()).sum().backward();
    EXPECT_EQ(x.grad().sizes(), x.sizes());
    EXPECT_EQ(column.grad().sizes(), column.sizes());
  }
}

TEST(ClippingTest, StartsWithOneFactorPerRange) {
  const at::Tensor factor = initial_clip_factor(3, 10, {.bits = 4, .group_size = 4}, at::kCPU);
  EXPECT_TRUE(at::equal(factor, at::full({9, 1}, 4.0)));
  EXPECT_NEAR(factor.sigmoid()[0].item<double>(), 0.9820137900, 1e-7);
}

// The quantizer of the DuQuant family, 4 bits: rows of one range each, clipped by a fixed ratio.
TEST(RowClipTest, RangesShrinkByTheRatioAsInThePublishedVectors) {
  const at::Tensor x = matrix_of({{-1, 0.17, 0.52, 2}, {3, 3.45, 4.06, 6}});
  const std::vector<std::pair<double, Matrix>> expected = {
      {1.0, {{-1, 0.2, 0.6, 2}, {3, 3.4, 4, 6}}},
      {0.9, {{-0.9, 0.18, 0.54, 1.8}, {3.06, 3.42, 4.14, 5.4}}},
      {0.8, {{-0.8, 0.16, 0.48, 1.6}, {3.04, 3.52, 4, 4.8}}}};
  for (const RowsFunction function : kRowsFunctions) {
    for (const auto& [clip, rows] : expected) {
      EXPECT_TRUE(at::allclose(function(x, {.bits = 4}, ratio(clip)), matrix_of(rows), 1e-6, 1e-6))
          << clip;
    }
    EXPECT_TRUE(at::equal(function(x, {.bits = 4}, {}), function(x, {.bits = 4}, ratio(1.0))));
  }
}

// A symmetric grid, whose zero point is the same for every range (an asymmetric one's carries no
// gradient by design): the largest entry of each row is cut to the clipped range, at 15 bits nearly
// exactly, so row 0 gives d/d upper = 3 * 2 and row 1 gives d/d lower = -1 * -3.
TEST(RowClipTest, GradientOfTheFactorsIsThatOfTheEntriesTheyCut) {
  const at::Tensor x = matrix_of({{-1, 0.17, 0.52, 2}, {-3, 0.45, 1.06, 0.6}}, at::kDouble);
  const at::Tensor weight = matrix_of({{1, 0.3, -2, 3}, {-1, 2, 0.7, -4}}, at::kDouble);
  const RowClip clip{.upper = leaf(at::full({1}, 0.8, at::kDouble)),
                     .lower = leaf(at::full({1}, 0.7, at::kDouble))};
  const auto loss = [&](const RowClip& factors) {
    return (fake_quant_rows(x, {.bits = 15, .symmetric = true}, factors) * weight).sum();
  };
  loss(clip).backward();
  EXPECT_NEAR(clip.upper.grad().item<double>(), 6.0, 0.01);
  EXPECT_NEAR(clip.lower.grad().item<double>(), 3.0, 0.01);
  const auto at_upper = [&](double upper) {
    return loss({.upper = at::full({1}, upper, at::kDouble),
                 .lower = at::full({1}, 0.7, at::kDouble)})
        .item<double>();
  };
  EXPECT_NEAR((at_upper(0.82) - at_upper(0.78)) / 0.04, 6.0, 0.05);
}

}  // namespace
}  // namespace lrq::quant

// GPTQ by the specification's vector 9.8, by hand, and against optimal brain quantization written
// out column by column: the inverse of what remains, updated by elimination in float64.
#include "src/quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "src/base/error.h"
#include "src/quant/fake_quant.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;

struct Layer {
  at::Tensor weight;   // [O, I]
  at::Tensor hessian;  // [I, I]
  QuantizedWeight plain;
};

// Correlated inputs: a random mixture of channels of different size.
Layer layer_of(std::int64_t out, std::int64_t in, const Grid& grid, std::uint64_t seed,
               at::ScalarType dtype = at::kDouble) {
  const at::Tensor size = random({in}, seed + 1000, at::kDouble).exp();
  const at::Tensor x =
      at::mm(random({4 * in, in}, seed, at::kDouble), random({in, in}, seed + 2000, at::kDouble)) *
      size;
  const at::Tensor hessian = at::mm(x.t(), x) / static_cast<double>(2 * in);
  const at::Tensor weight = random({out, in}, seed + 3000, at::kDouble);
  const at::Tensor rounded = weight.to(dtype);
  return {rounded, hessian.to(dtype), quantize_weight(rounded, {}, grid)};
}

at::Tensor values(const QuantizedWeight& q, const at::Tensor& group) {
  return (q.codes - q.zero.index_select(1, group)) * q.step.index_select(1, group);
}

at::Tensor group_of(std::int64_t in, const Grid& grid) {
  std::vector<std::int64_t> group(static_cast<std::size_t>(in), 0);
  for (std::size_t i = 0; i < group.size() && grid.group_size > 0; ++i) {
    group[i] = static_cast<std::int64_t>(i) / grid.group_size;
  }
  return at::tensor(group, at::kLong);
}

// trace((W - Q) H (W - Q)^T)
double output_error(const at::Tensor& weight, const at::Tensor& rounded, const at::Tensor& h) {
  const at::Tensor d = (weight - rounded).to(at::kDouble);
  return (at::mm(d, h.to(at::kDouble)) * d).sum().item<double>();
}

using Square = std::vector<std::vector<double>>;

Square inverse_of(const at::Tensor& damped) {
  const at::Tensor inverse = at::linalg_inv(damped);
  Square rows(static_cast<std::size_t>(damped.size(0)));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < rows.size(); ++j) {
      rows[i].push_back(
          inverse[static_cast<std::int64_t>(i)][static_cast<std::int64_t>(j)].item<double>());
    }
  }
  return rows;
}

// Optimal brain quantization of each row in the given order of columns.
at::Tensor brain_surgeon(const Layer& layer, double damping, const Grid& grid,
                         const std::vector<std::size_t>& order) {
  const std::int64_t in = layer.weight.size(1);
  const at::Tensor mean = layer.hessian.diagonal().mean();
  Square inverse =
      inverse_of(layer.hessian + at::eye(in, layer.hessian.options()) * mean * damping);
  const at::Tensor group = group_of(in, grid);
  const at::Tensor step = layer.plain.step.index_select(1, group).contiguous();
  const at::Tensor zero = layer.plain.zero.index_select(1, group).contiguous();
  at::Tensor left = layer.weight.clone();
  at::Tensor codes = at::zeros_like(layer.plain.codes);
  std::vector<bool> done(order.size(), false);
  for (const std::size_t q : order) {
    for (std::int64_t row = 0; row < left.size(0); ++row) {
      double* const w = left.data_ptr<double>() + row * in;
      const double s = step.data_ptr<double>()[row * in + static_cast<std::int64_t>(q)];
      const double z = zero.data_ptr<double>()[row * in + static_cast<std::int64_t>(q)];
      const double code =
          std::clamp(std::nearbyint(w[q] / s) + z, 0.0, static_cast<double>(grid.q_max()));
      codes.data_ptr<int>()[row * in + static_cast<std::int64_t>(q)] = static_cast<int>(code);
      const double error = (w[q] - (code - z) * s) / inverse[q][q];
      for (std::size_t j = 0; j < order.size(); ++j) {
        if (!done[j] && j != q) w[j] -= error * inverse[q][j];
      }
    }
    done[q] = true;
    const Square before = inverse;  // strike row and column q out of the Hessian
    for (std::size_t i = 0; i < order.size(); ++i) {
      for (std::size_t j = 0; j < order.size(); ++j) {
        inverse[i][j] = before[i][j] - before[i][q] * before[q][j] / before[q][q];
      }
    }
  }
  return codes;
}

std::vector<std::size_t> left_to_right(std::int64_t in) {
  std::vector<std::size_t> order(static_cast<std::size_t>(in));
  std::iota(order.begin(), order.end(), std::size_t{0});
  return order;
}

GptqResult rounded(const Layer& layer, const Grid& grid, const GptqOptions& options = {}) {
  return gptq(layer.weight, layer.hessian, grid, layer.plain.step, layer.plain.zero, options);
}

TEST(GptqTest, GivesVector98) {
  const at::Tensor hessian = matrix_of({{2, 1, 0.5}, {1, 2, 1}, {0.5, 1, 2}});
  const at::Tensor weight = matrix_of({{0.4, -0.6, -0.2}});
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (const std::int64_t block : {1, 2, 128}) {
      const GptqResult result =
          gptq(weight.to(dtype), hessian, {.bits = 3}, matrix_of({{0.125}}, dtype),
               matrix_of({{1 + 4}}, dtype), {.block = block});
      expect_close(result.weight, matrix_of({{0.25, -0.5, -0.25}}), 0, 0);
      // codes of the specification's signed grid are round(w / s) + 1 = 3, -3, -1
      EXPECT_TRUE(at::equal(result.codes, matrix_of({{7, 1, 3}}).to(at::kInt))) << result.codes;
      EXPECT_NEAR(result.loss, 0.0191, 1e-6);
      EXPECT_EQ(result.damping, 0.01);
      EXPECT_NEAR(output_error(weight, result.weight, hessian), 0.0375, 1e-6);
    }
  }
}

// The weights that reach the later columns, seen through ranges of 15 bits and step 1e-8 that lie
// around them.
TEST(GptqTest, CompensatesAsVector98Says) {
  constexpr double kFine = 1e-8;
  const at::Tensor hessian = matrix_of({{2, 1, 0.5}, {1, 2, 1}, {0.5, 1, 2}}, at::kDouble);
  const at::Tensor weight = matrix_of({{0.4, -0.6, -0.2}}, at::kDouble);
  const at::Tensor group = at::tensor({0L, 1L, 2L});
  const auto seen = [&](const Matrix& step, const Matrix& zero) {
    return gptq(weight, hessian, {.bits = 15}, matrix_of(step, at::kDouble),
                matrix_of(zero, at::kDouble), {}, group)
        .weight;
  };
  // column 0 is cut at 0.25, the largest code, as three bits do
  const double cut = 32767 - 2;
  expect_close(seen({{0.125, kFine, kFine}}, {{cut, 52598364 + 16384, 19951305 + 16384}}),
               matrix_of({{0.25, -0.52598364, -0.19951305}}, at::kDouble), 0, 1.1e-8);
  expect_close(seen({{0.125, 0.125, kFine}}, {{cut, 5, 21237624 + 16384}}),
               matrix_of({{0.25, -0.5, -0.21237624}}, at::kDouble), 0, 1.1e-8);
}

TEST(GptqTest, EqualsOptimalBrainQuantizationColumnByColumn) {
  for (const Grid grid : {Grid{.bits = 3}, Grid{.bits = 4, .group_size = 8},
                          Grid{.bits = 2, .symmetric = true, .zero_point = false}}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const Layer layer = layer_of(6, 24, grid, seed);
      const at::Tensor expected = brain_surgeon(layer, 0.01, grid, left_to_right(24));
      for (const std::int64_t block : {1, 7, 128}) {
        const GptqResult result = rounded(layer, grid, {.block = block});
        EXPECT_TRUE(at::equal(result.codes, expected)) << "seed " << seed << " block " << block;
      }
    }
  }
}

TEST(GptqTest, ActOrderTakesTheLargestDiagonalFirstAndKeepsStorage) {
  const Grid grid{.bits = 3, .group_size = 8};
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Layer layer = layer_of(6, 24, grid, seed);
    std::vector<std::size_t> order = left_to_right(24);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const double* const h = layer.hessian.data_ptr<double>();
      return h[a * 25] > h[b * 25];
    });
    const GptqResult result = rounded(layer, grid, {.act_order = true, .block = 5});
    EXPECT_TRUE(at::equal(result.codes, brain_surgeon(layer, 0.01, grid, order)));
  }
}

TEST(GptqTest, LossIsHalfTheDampedOutputError) {
  const Grid grid{.bits = 3};
  for (const bool act_order : {false, true}) {
    const Layer layer = layer_of(5, 16, grid, 7);
    const GptqResult result = rounded(layer, grid, {.damping = 0.05, .act_order = act_order});
    const at::Tensor damped = layer.hessian + at::eye(16, layer.hessian.options()) * 0.05 *
                                                  layer.hessian.diagonal().mean();
    const double error = output_error(layer.weight, result.weight, damped);
    EXPECT_NEAR(result.loss, 0.5 * error, 1e-9 * error);
  }
}

TEST(GptqTest, LeavesLessOutputErrorThanRoundingToNearest) {
  for (const int bits : {2, 3, 4}) {
    const Grid grid{.bits = bits, .group_size = 16};
    double ours = 0;
    double nearest = 0;
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      const Layer layer = layer_of(8, 32, grid, seed, at::kFloat);
      const double scale = output_error(layer.weight, at::zeros_like(layer.weight), layer.hessian);
      ours += output_error(layer.weight, rounded(layer, grid).weight, layer.hessian) / scale;
      nearest +=
          output_error(layer.weight, values(layer.plain, group_of(32, grid)), layer.hessian) /
          scale;
    }
    EXPECT_LT(ours, 0.8 * nearest) << bits << " bits";
  }
}

TEST(GptqTest, CodesGiveTheWeightAndStayOnTheGrid) {
  const Grid grid{.bits = 3, .group_size = 8};
  const Layer layer = layer_of(8, 32, grid, 3, at::kFloat);
  const GptqResult result = rounded(layer, grid);
  EXPECT_EQ(result.codes.scalar_type(), at::kInt);
  EXPECT_GE(result.codes.min().item<int>(), 0);
  EXPECT_LE(result.codes.max().item<int>(), 7);
  const at::Tensor group = group_of(32, grid);
  EXPECT_TRUE(
      at::equal(result.weight, values({result.codes, layer.plain.step, layer.plain.zero}, group)));
}

TEST(GptqTest, ADiagonalHessianRoundsToNearest) {
  for (const bool act_order : {false, true}) {
    const Grid grid{.bits = 4, .group_size = 16};
    Layer layer = layer_of(8, 48, grid, 5, at::kFloat);
    layer.hessian = at::diag(random({48}, 11).abs() + 0.1);
    const GptqResult result = rounded(layer, grid, {.act_order = act_order, .block = 20});
    EXPECT_TRUE(at::equal(result.codes, layer.plain.codes));
  }
}

TEST(GptqTest, ColumnGroupSaysWhichRangeAColumnHas) {
  // columns 0 and 2 share the first range, 1 has its own; a diagonal Hessian moves nothing
  const GptqResult result =
      gptq(matrix_of({{0.9, 5, -0.4}}), at::eye(3), {.bits = 2}, matrix_of({{1, 4}}),
           matrix_of({{2, 1}}), {}, at::tensor({0L, 1L, 0L}));
  EXPECT_TRUE(at::equal(result.codes, matrix_of({{3, 2, 2}}).to(at::kInt))) << result.codes;
  EXPECT_TRUE(at::equal(result.weight, matrix_of({{1, 4, 0}}))) << result.weight;
}

TEST(GptqTest, ADeadColumnBecomesZeroAndMovesNothing) {
  const Grid grid{.bits = 3};
  Layer layer = layer_of(4, 8, grid, 9);
  layer.hessian.select(0, 3).zero_();
  layer.hessian.select(1, 3).zero_();
  const GptqResult result = rounded(layer, grid);
  EXPECT_TRUE(result.weight.select(1, 3).eq(0).all().item<bool>());
  // rounding goes on as if the column did not exist, but for the mean of the diagonal
  const at::Tensor rest = at::tensor({0L, 1L, 2L, 4L, 5L, 6L, 7L});
  const double mean = layer.hessian.diagonal().sum().item<double>() + 1;
  const double others = layer.hessian.diagonal().sum().item<double>();
  const GptqResult alone = gptq(
      layer.weight.index_select(1, rest), layer.hessian.index_select(0, rest).index_select(1, rest),
      grid, layer.plain.step, layer.plain.zero, {.damping = 0.01 * (mean / 8) / (others / 7)});
  EXPECT_TRUE(at::equal(result.codes.index_select(1, rest), alone.codes));
}

TEST(GptqTest, DampsMoreWhereTheHessianIsIndefinite) {
  const at::Tensor indefinite = matrix_of({{1, 1.05}, {1.05, 1}});  // eigenvalues 2.05, -0.05
  const GptqResult result =
      gptq(matrix_of({{0.3, 0.6}}), indefinite, {.bits = 3}, matrix_of({{0.25}}), matrix_of({{0}}));
  EXPECT_DOUBLE_EQ(result.damping, 0.1);
  EXPECT_THROW((void)gptq(matrix_of({{0.3, 0.6}}), matrix_of({{1, 5}, {5, 1}}), {.bits = 3},
                          matrix_of({{0.25}}), matrix_of({{0}})),
               NumericError);
}

TEST(GptqTest, NamesTheWeightWhoseHessianIsNotFinite) {
  at::Tensor hessian = at::eye(2);
  hessian[0][1] = std::numeric_limits<double>::quiet_NaN();
  try {
    (void)gptq(at::ones({1, 2}), hessian, {.bits = 3}, at::ones({1, 1}), at::zeros({1, 1}),
               {.name = "block 3 down_proj"});
    FAIL() << "no error";
  } catch (const NumericError& error) {
    EXPECT_NE(error.text().where.find("block 3 down_proj"), std::string::npos);
  }
}

TEST(GptqTest, LeavesItsInputsAlone) {
  const Grid grid{.bits = 3};
  const Layer layer = layer_of(4, 8, grid, 2);
  const at::Tensor weight = layer.weight.clone();
  const at::Tensor hessian = layer.hessian.clone();
  (void)rounded(layer, grid);
  EXPECT_TRUE(at::equal(layer.weight, weight));
  EXPECT_TRUE(at::equal(layer.hessian, hessian));
}

}  // namespace
}  // namespace lrq::quant

// Starting scales, truncation and the spreading over heads: vector C, and F3 for the rotary pairs.
#include "src/transform/smoothing.h"

#include <cmath>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

TEST(SmoothingTest, LogarithmicStartIsThatOfVectorC) {
  const at::Tensor start = lae_scale(vector_of({0, 0.5, 1, 2, 6, 14, 62, 1000}));
  expect_vector(start, vector_of({1e-5, 0.37823537, 0.63092977, 1, 2, 3.5, 10.333333, 100.314316}));
  EXPECT_FLOAT_EQ(truncate_scale(start)[0].item<float>(), 0.01F);
}

TEST(SmoothingTest, SmoothQuantStartIsThatOfVectorC) {
  const at::Tensor absmax = vector_of({4, 16});
  const at::Tensor weight = matrix_of({{1, 0.25}, {-0.5, -0.125}});  // column maxima 1 and 0.25
  expect_vector(smoothquant_scale(absmax, weight, 0.5), vector_of({2, 8}));
  expect_vector(smoothquant_scale(absmax, weight, 0.75), vector_of({2.828427, 11.313708}));
}

TEST(SmoothingTest, SilentChannelsStartAtTheSmallestScale) {
  const at::Tensor start = smoothquant_scale(vector_of({0, 1}), matrix_of({{1, 0}}), 0.5);
  expect_vector(start, vector_of({1e-5, 1 / std::sqrt(1e-5)}));
}

TEST(SmoothingTest, TruncationIsThatOfVectorC) {
  const at::Tensor scale = leaf(vector_of({0.005, -0.005, 0, 0.01, 0.5, -3}));
  const at::Tensor found = truncate_scale(scale);
  EXPECT_TRUE(at::equal(found, vector_of({0.01, -0.01, 0.01, 0.01, 0.5, -3}))) << found;
  found.sum().backward();
  EXPECT_TRUE(at::equal(scale.grad(), at::ones({6}))) << scale.grad();
}

TEST(SmoothingTest, TruncationRunsOnTheMetaDevice) {
  const at::Tensor scale = at::empty({6}, at::TensorOptions().device(at::kMeta));
  EXPECT_EQ(truncate_scale(scale).sizes(), scale.sizes());
}

TEST(SmoothingTest, HeadsAreRepeatedInQueryOrder) {
  const at::Tensor v = vector_of({1, 2, 3, 4});  // two heads of two
  EXPECT_TRUE(at::equal(repeat_heads(v, 2, 2), vector_of({1, 2, 1, 2, 3, 4, 3, 4})));
  EXPECT_TRUE(at::equal(repeat_heads(v, 2, 1), v));
  const at::Tensor queries = vector_of({1, 6, 5, 2, 3, 4, 3, 8});
  EXPECT_TRUE(at::equal(max_over_shared_heads(queries, 2, 2), vector_of({5, 6, 3, 8})));
  EXPECT_TRUE(at::equal(mean_over_shared_heads(queries, 2, 2), vector_of({3, 4, 3, 6})));
  EXPECT_THROW((void)repeat_heads(v, 3, 2), BugError);
}

TEST(SmoothingTest, GradientOfARepeatedHeadIsTheSumOverItsQueries) {
  const at::Tensor v = leaf(vector_of({1, 2, 3, 4}));
  (repeat_heads(v, 2, 2) * vector_of({1, 2, 3, 4, 5, 6, 7, 8})).sum().backward();
  EXPECT_TRUE(at::equal(v.grad(), vector_of({4, 6, 12, 14}))) << v.grad();
}

TEST(SmoothingTest, RotaryPairsLieHalfAHeadApart) {
  EXPECT_TRUE(at::equal(spread_rotary_pairs(vector_of({1, 2, 3, 4}), 2),
                        vector_of({1, 2, 1, 2, 3, 4, 3, 4})));
}

// Rotate one head of four channels, half-split convention, base 10000.
at::Tensor rope(const at::Tensor& x, double position) {
  const at::Tensor angle =
      vector_of({position, position * 0.01, position, position * 0.01}, at::kDouble);
  const at::Tensor turned = at::cat({-x.slice(0, 2, 4), x.slice(0, 0, 2)});
  return x * angle.cos() + turned * angle.sin();
}

TEST(SmoothingTest, TiedPairsKeepTheProductUnderRotaryEmbedding) {  // vector F3
  const at::Tensor q = vector_of({1, 2, 3, 4}, at::kDouble);
  const at::Tensor k = vector_of({-1, 0.5, 2, 1}, at::kDouble);
  const auto product = [&](const at::Tensor& s) {
    return rope(q / s, 3).dot(rope(k * s, 1)).item<double>();
  };
  const at::Tensor tied = spread_rotary_pairs(vector_of({2, 0.5}, at::kDouble), 1);
  EXPECT_NEAR(product(tied), 7.4647529847, 1e-9);
  EXPECT_NEAR(product(vector_of({2, 1, 0.5, 1}, at::kDouble)), 14.2844836859, 1e-9);
}

}  // namespace
}  // namespace lrq::transform

// The bias of a shifted input: by hand, and inside the foldings F1, F1b, F2 and F4.
#include "src/transform/shift.h"

#include "src/transform/smoothing.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

constexpr double kTolerance = 1e-9;

at::Tensor vector64(const Values& values) { return vector_of(values, at::kDouble); }

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return x.matmul(weight.t()) + bias;
}

const Matrix kInput = {{1, -2, 3, 4}, {0.5, 0, -1, 2}};
const Matrix kWeight = {{1, 0, 2, -1}, {0.5, 1, 0, 1}, {-1, 2, 1, 0}};
const Values kGain = {1, 2, 0.5, 1};
const Values kScale = {2, 0.5, 1, 4};
const Values kShift = {0.1, -0.2, 0, 0.3};

TEST(ShiftTest, AnUndefinedPartCountsAsZero) {
  const at::Tensor weight = matrix_of({{1, 2}, {3, 4}});
  const at::Tensor bias = vector_of({10, 20});
  const at::Tensor delta = vector_of({1, -1});
  EXPECT_TRUE(at::equal(bias_with_shift(bias, weight, delta), vector_of({9, 19})));
  EXPECT_TRUE(at::equal(bias_with_shift({}, weight, delta), vector_of({-1, -1})));
  EXPECT_TRUE(at::equal(bias_with_shift(bias, weight, {}), bias));
  EXPECT_FALSE(bias_with_shift({}, weight, {}).defined());
}

TEST(ShiftTest, HalfPrecisionIsFoldedInFloat32) {
  const at::Tensor weight = matrix_of({{1, 2}}, at::kHalf);
  const at::Tensor found = bias_with_shift(vector_of({1}, at::kHalf), weight, vector_of({1e-4, 0}));
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  expect_vector(found, vector_of({1.0001}));
}

TEST(ShiftTest, GradientOfTheShiftIsTheTransposedWeight) {
  const at::Tensor delta = leaf(vector_of({1, -1}));
  (bias_with_shift({}, matrix_of({{1, 2}, {3, 4}}), delta) * vector_of({1, 10})).sum().backward();
  EXPECT_TRUE(at::equal(delta.grad(), vector_of({31, 42}))) << delta.grad();
}

TEST(ShiftTest, FoldingIntoAnRmsNormKeepsTheOutput) {  // vector F1
  const at::Tensor x = matrix64(kInput);
  const at::Tensor weight = matrix64(kWeight);
  const at::Tensor scale = vector64(kScale);
  const at::Tensor delta = vector64(kShift);
  const at::Tensor unit = x * (x.square().mean(1, true) + 1e-6).rsqrt();
  const at::Tensor bias = bias_with_shift({}, weight, delta);
  expect_close(bias, vector64({-0.2, 0.15, -0.5}), kTolerance, kTolerance);
  const at::Tensor folded = unit * (vector64(kGain) / scale) - delta / scale;
  expect_close(folded,
               matrix64({{0.1325741737, -2.5211867786, 0.5477225210, 0.2901483473},
                         {0.1682178071, 0.4, -0.4364356142, 0.3614356142}}),
               kTolerance, kTolerance);
  const at::Tensor expected =
      matrix64({{0, 0.1825741737, -2.7386126050}, {-2.1821780711, 1.9639602639, -0.8728712284}});
  expect_close(linear(folded, weight * scale, bias), expected, kTolerance, kTolerance);
  expect_close((unit * vector64(kGain)).matmul(weight.t()), expected, kTolerance, kTolerance);
}

TEST(ShiftTest, FoldingIntoALayerNormKeepsTheOutput) {  // vector F1b
  const at::Tensor weight = matrix64(kWeight);
  const at::Tensor scale = vector64(kScale);
  const at::Tensor delta = vector64(kShift);
  const at::Tensor norm_bias = vector64({0.1, 0, -0.1, 0.2});
  const at::Tensor bias = bias_with_shift(vector64({0.5, -0.5, 0}), weight, delta);
  expect_close(bias, vector64({0.3, -0.35, -0.5}), kTolerance, kTolerance);
  const at::Tensor folded = at::layer_norm(matrix64(kInput), {4}, vector64(kGain) / scale,
                                           (norm_bias - delta) / scale, 1e-5);
  expect_close(linear(folded, weight * scale, bias),
               matrix64({{-0.4546530472, -2.3230679829, -5.7645509014},
                         {-2.4557999069, 0.6160217088, -2.3361868816}}),
               kTolerance, kTolerance);
}

TEST(ShiftTest, FoldingTheValuesIntoTheOutputKeepsTheResult) {  // vector F2
  const at::Tensor scale = vector64({2, 0.5});
  const at::Tensor delta = vector64({0.3, -0.4});
  const at::Tensor value_weight = matrix64({{1, 2}, {0, -1}}) / scale.unsqueeze(1);
  const at::Tensor value_bias = (vector64({0.5, 0}) - delta) / scale;
  const at::Tensor out_weight = matrix64({{1, 1}, {2, -1}});
  const at::Tensor out_bias = bias_with_shift(vector64({0, 1}), out_weight, delta);
  expect_close(out_bias, vector64({-0.1, 2.0}), kTolerance, kTolerance);
  const at::Tensor value = linear(matrix64({{1, 0}, {2, 1}}), value_weight, value_bias);
  const at::Tensor mixed = matrix64({{1, 0}, {0.25, 0.75}}).matmul(value);
  expect_close(linear(mixed, out_weight * scale, out_bias), matrix64({{1.5, 4}, {3, 9.25}}),
               kTolerance, kTolerance);
}

TEST(ShiftTest, SharedHeadsFoldThroughRepetition) {  // vector F4
  const at::Tensor scale = vector64({2, 0.5});
  const at::Tensor delta = vector64({0.3, -0.4});
  const at::Tensor out_weight = matrix64({{1, 1, 0, 2}, {2, -1, 1, 0}});
  const at::Tensor out_bias = bias_with_shift({}, out_weight, repeat_heads(delta, 1, 2));
  expect_close(out_bias, vector64({-0.9, 1.3}), kTolerance, kTolerance);
  const at::Tensor folded_weight = out_weight * repeat_heads(scale, 1, 2);
  expect_close(folded_weight, matrix64({{2, 0.5, 0, 1}, {4, -0.5, 2, 0}}), kTolerance, kTolerance);
  const at::Tensor value = linear(matrix64({{1, 0}, {2, 1}}),
                                  matrix64({{1, 2}, {0, -1}}) / scale.unsqueeze(1), -delta / scale);
  const at::Tensor first = matrix64({{1, 0}, {0.25, 0.75}}).matmul(value);
  const at::Tensor second = matrix64({{1, 0}, {0.5, 0.5}}).matmul(value);
  expect_close(linear(at::cat({first, second}, 1), folded_weight, out_bias),
               matrix64({{1, 3}, {1.5, 9.75}}), kTolerance, kTolerance);
}

}  // namespace
}  // namespace lrq::transform

// Scale and shift as kinds, by hand.
#include "src/transform/scale.h"

#include <gtest/gtest.h>

#include "src/transform/shift.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

TEST(ScaleTest, DividesTheInputAndMultipliesTheWeight) {  // vector 9.9
  const at::Tensor x = vector_of({4, -1, 0.25, 16}, at::kDouble).unsqueeze(0);
  const at::Tensor weight =
      matrix_of({{0.5, -0.25, 1, 0.125}, {-0.2, 0.5, 0.1, -0.0625}}, at::kDouble);
  const at::Tensor scale = vector_of({4, 2, 0.70710678118654752, 16}, at::kDouble);
  const at::Tensor divided = scale_kind().apply(scale, x);
  expect_close(divided, matrix_of({{1, -0.5, 0.35355339059327376, 1}}), 1e-6, 1e-6);
  const at::Tensor y = divided.matmul(scale_kind().fold(scale, weight).t());
  expect_close(y, matrix_of({{4.5, -2.275}}), 1e-6, 1e-6);
}

TEST(ScaleTest, RefusesZero) {
  EXPECT_EQ(scale_kind().problem(vector_of({1, -2}), 2), "");
  EXPECT_EQ(scale_kind().problem(vector_of({1, 0}), 2), "a scale is 0");
  EXPECT_EQ(scale_kind().problem(vector_of({1, 2}), 3), "shape [2], not [3]");
}

TEST(ScaleTest, AShiftBehindAScaleMeetsTheScaledWeight) {
  // x = (6, 4), s = (2, 4), d = (1, 1): ((3, 1) - d) = (2, 0); W = (1, 10): W s = (2, 40).
  const Chain chain = {{&scale_kind(), vector_of({2, 4})}, {&shift_kind(), vector_of({1, 1})}};
  const at::Tensor weight = matrix_of({{1, 10}});
  EXPECT_TRUE(at::equal(transform::apply(chain, vector_of({6, 4})), vector_of({2, 0})));
  EXPECT_TRUE(at::equal(bias_term(chain, weight), vector_of({42})));
}

}  // namespace
}  // namespace lrq::transform

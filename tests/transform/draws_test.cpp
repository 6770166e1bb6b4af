#include "src/transform/draws.h"

#include <gtest/gtest.h>

#include "src/base/draw_key.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

TEST(DrawsTest, TheSameKeyDrawsTheSameNumbersAndAnotherOthers) {
  const Draws once = draws_from(draw_key(2, {5, 1, 0, 0}));
  const Draws again = draws_from(draw_key(2, {5, 1, 0, 0}));
  const Draws other = draws_from(draw_key(2, {6, 1, 0, 0}));
  EXPECT_TRUE(at::equal(once.normal({20, 3}), again.normal({20, 3})));
  const at::Tensor uniform = once.uniform(50);
  EXPECT_TRUE(at::equal(uniform, again.uniform(50)));
  EXPECT_TRUE(at::equal(once.permutation(30), again.permutation(30)));
  EXPECT_FALSE(at::equal(uniform, once.uniform(50)));
  (void)other.normal({20, 3});
  EXPECT_FALSE(at::equal(uniform, other.uniform(50)));
}

TEST(DrawsTest, NumbersHaveTheirShapeTypeAndRange) {
  const Draws draws = draws_from(1);
  const at::Tensor normal = draws.normal({400, 100});
  EXPECT_EQ(normal.scalar_type(), at::kDouble);
  EXPECT_NEAR(normal.mean().item<double>(), 0, 0.02);
  EXPECT_NEAR(normal.std().item<double>(), 1, 0.02);
  const at::Tensor uniform = draws.uniform(10000);
  EXPECT_EQ(uniform.scalar_type(), at::kDouble);
  EXPECT_GE(uniform.min().item<double>(), 0);
  EXPECT_LT(uniform.max().item<double>(), 1);
  EXPECT_NEAR(uniform.mean().item<double>(), 0.5, 0.02);
  const at::Tensor permutation = draws.permutation(100);
  EXPECT_TRUE(at::equal(std::get<0>(permutation.sort()), at::arange(100, at::kLong)));
}

}  // namespace
}  // namespace lrq::transform

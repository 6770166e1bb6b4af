#include "src/transform/givens.h"

#include <cmath>

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

TEST(GivensTest, TurnsPairsCounterClockwise) {
  const double right_angle = std::acos(0.0);
  // (3, 4) by -acos(0.6) to (5, 0); (0, 2) by -90 degrees to (2, 0): vector 9.6.
  const at::Tensor angles = vector_of({-std::acos(0.6), -right_angle}, at::kDouble);
  const at::Tensor x = vector_of({3, 4, 0, 2}, at::kDouble);
  expect_close(turn_pairs(angles, x), vector_of({5, 0, 2, 0}, at::kDouble), 1e-12, 1e-12);
  expect_close(turn_pairs_back(angles, x), vector_of({-1.4, 4.8, -2, 0}, at::kDouble), 1e-12,
               1e-12);
}

TEST(GivensTest, RefusesAnOddNumberOfChannels) {
  EXPECT_EQ(givens_kind().problem(at::zeros({2}), 4), "");
  EXPECT_EQ(givens_kind().problem(at::zeros({2}), 5), "5 channels, which do not fall into pairs");
  EXPECT_EQ(givens_kind().problem(at::zeros({4}), 4), "shape [4], not [2]");
  EXPECT_THROW((void)turn_pairs(at::zeros({2}), at::zeros({1, 5})), BugError);
}

}  // namespace
}  // namespace lrq::transform

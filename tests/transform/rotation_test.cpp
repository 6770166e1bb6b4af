#include "src/transform/rotation.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

const Matrix kQuarterTurn = {{0, 1}, {-1, 0}};  // (a, b) -> (-b, a)

TEST(RotationTest, TurnsEachBlockByTheSharedOrByItsOwnMatrix) {
  const at::Tensor x = matrix_of({{1, 2, 3, 4}, {5, 6, 7, 8}});
  const at::Tensor turn = matrix_of(kQuarterTurn);
  EXPECT_TRUE(at::equal(rotate(turn, x), matrix_of({{-2, 1, -4, 3}, {-6, 5, -8, 7}})));
  EXPECT_TRUE(at::equal(rotate_back(turn, x), matrix_of({{2, -1, 4, -3}, {6, -5, 8, -7}})));
  const at::Tensor own = at::stack({at::eye(2), turn});
  EXPECT_TRUE(at::equal(rotate(own, x), matrix_of({{1, 2, -4, 3}, {5, 6, -8, 7}})));
  EXPECT_TRUE(at::equal(rotate_back(own, x), matrix_of({{1, 2, 4, -3}, {5, 6, 8, -7}})));
}

TEST(RotationTest, RefusesWhatIsNoRotationOfTheseChannels) {
  const auto problem = rotation_kind().problem;
  const at::Tensor turn = matrix_of(kQuarterTurn);
  EXPECT_EQ(problem(turn, 4), "");
  EXPECT_EQ(problem(turn, 5), "block size 2 does not divide 5 channels");
  EXPECT_EQ(problem(at::stack({turn, turn}), 4), "");
  EXPECT_EQ(problem(at::stack({turn, turn}), 6), "2 blocks, not 3");
  EXPECT_EQ(problem(at::zeros({2, 3}), 6), "shape [2, 3], not [B, B] or [C / B, B, B]");
  EXPECT_EQ(problem(at::zeros({4}), 4), "shape [4], not [B, B] or [C / B, B, B]");
  EXPECT_NE(problem(turn * 1.0001, 4), "");
  EXPECT_NE(problem(at::ones({2, 2}), 4), "");
  EXPECT_THROW((void)rotate(at::stack({turn, turn}), at::zeros({1, 6})), BugError);
  EXPECT_THROW((void)rotate(turn, at::zeros({1, 5})), BugError);
}

TEST(RotationTest, BlockSizeLeftOpenIsAPowerOfTwoUpTo128) {
  EXPECT_EQ(auto_block_size(4096), 128);
  EXPECT_EQ(auto_block_size(28672), 128);
  EXPECT_EQ(auto_block_size(576), 64);
  EXPECT_EQ(auto_block_size(12), 4);
  EXPECT_EQ(auto_block_size(7), 1);
  EXPECT_THROW((void)auto_block_size(0), BugError);
}

}  // namespace
}  // namespace lrq::transform

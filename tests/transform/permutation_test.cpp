#include "src/transform/permutation.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

at::Tensor indices(std::initializer_list<std::int64_t> values) {
  return at::tensor(at::ArrayRef<std::int64_t>(values), at::kLong);
}

TEST(PermutationTest, GathersAndGoesBackBitForBit) {
  const at::Tensor pi = indices({2, 0, 3, 1});
  const at::Tensor x = matrix_of({{10, 11, 12, 13}, {20, 21, 22, 23}});
  const at::Tensor moved = permute_channels(pi, x);
  EXPECT_TRUE(at::equal(moved, matrix_of({{12, 10, 13, 11}, {22, 20, 23, 21}})));
  const at::Tensor any = random({7, 4}, 1);
  EXPECT_TRUE(at::equal(unpermute_channels(pi, permute_channels(pi, any)), any));
}

TEST(PermutationTest, RefusesWhatIsNoBijection) {
  const auto problem = permutation_kind().problem;
  EXPECT_EQ(problem(indices({2, 0, 1}), 3), "");
  EXPECT_EQ(problem(indices({2, 0, 2}), 3), "not every channel of 0 .. 2 occurs once");
  EXPECT_NE(problem(indices({1, 2, 3}), 3), "");
  EXPECT_NE(problem(indices({-1, 0, 1}), 3), "");
  EXPECT_EQ(problem(indices({0, 1}), 3), "shape [2], not [3]");
  EXPECT_EQ(problem(indices({0, 1}).to(at::kInt), 2), "dtype Int, not Long");
  EXPECT_THROW((void)permute_channels(indices({0, 1}), at::zeros({2, 3})), BugError);
}

}  // namespace
}  // namespace lrq::transform

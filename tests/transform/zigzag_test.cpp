// Zigzag: vector 9.1.
#include "src/transform/zigzag.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/transform/permutation.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

at::Tensor indices(std::initializer_list<std::int64_t> values) {
  return at::tensor(at::ArrayRef<std::int64_t>(values), at::kLong);
}

TEST(ZigzagTest, DealsLargeChannelsEvenly) {
  const at::Tensor x =
      matrix_of({{3, -1, 0.5, 8, 2, -6, 0.25, 1}, {-4, 0.75, 1.5, -7, 2.5, 5, 0.125, -9}});
  const at::Tensor pi = zigzag_permutation(x.abs().amax(0), 2);
  EXPECT_TRUE(at::equal(pi, indices({7, 0, 4, 6, 3, 5, 2, 1}))) << pi;
  EXPECT_TRUE(at::equal(
      permute_channels(pi, x),
      matrix_of({{1, 3, 2, 0.25, 8, -6, 0.5, -1}, {-9, -4, 2.5, 0.125, -7, 5, 1.5, 0.75}})));
}

TEST(ZigzagTest, FourBinsOneBinAndEqualChannels) {
  const at::Tensor absmax = vector_of({4, 1, 1.5, 8, 2.5, 6, 0.25, 9});
  EXPECT_TRUE(at::equal(zigzag_permutation(absmax, 4), indices({7, 6, 3, 1, 5, 2, 0, 4})));
  EXPECT_TRUE(at::equal(zigzag_permutation(absmax, 1), indices({7, 3, 5, 0, 4, 2, 1, 6})));
  EXPECT_TRUE(at::equal(zigzag_permutation(at::ones({8}), 2), indices({0, 3, 4, 7, 1, 2, 5, 6})));
}

TEST(ZigzagTest, ManyChannelsGiveAPermutation) {
  const at::Tensor absmax = random({1536}, 1).abs();
  EXPECT_EQ(permutation_kind().problem(zigzag_permutation(absmax, 12), 1536), "");
  EXPECT_THROW((void)zigzag_permutation(absmax, 7), BugError);
}

}  // namespace
}  // namespace lrq::transform

#include "src/transform/hadamard.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

// Sylvester's matrix by another formula: (-1)^(number of common bits of i and j) / sqrt(n).
at::Tensor sylvester(std::int64_t n) {
  at::Tensor matrix = at::empty({n, n}, at::kDouble);
  auto entry = matrix.accessor<double, 2>();
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const bool odd = std::popcount(static_cast<std::uint64_t>(i & j)) % 2 == 1;
      entry[i][j] = (odd ? -1 : 1) / std::sqrt(static_cast<double>(n));
    }
  }
  return matrix;
}

TEST(HadamardTest, KeepsTheProductOfQueryAndKey) {  // vector 9.11
  const at::Tensor q = hadamard_transform(4, vector_of({1, 2, 3, -4}));
  const at::Tensor k = hadamard_transform(4, vector_of({0.5, -1, 2, 1}));
  EXPECT_TRUE(at::equal(q, vector_of({1, 3, 2, -4}))) << q;
  EXPECT_TRUE(at::equal(k, vector_of({1.25, 1.25, -1.75, 0.25}))) << k;
  EXPECT_EQ(q.dot(k).item<float>(), 0.5F);
}

TEST(HadamardTest, IsSylvestersMatrixAtEverySize) {
  for (const std::int64_t n : {1, 2, 64, 128, 256, 1024}) {
    const at::Tensor found = hadamard_transform(n, at::eye(n, at::kDouble));
    expect_close(found, sylvester(n), 1e-12, 1e-14);
  }
}

TEST(HadamardTest, LargeOrSmallItIsAppliedToEachBlock) {
  for (const std::int64_t n : {8, 256}) {
    const at::Tensor x = random({3, 2 * n}, 1, at::kDouble);
    const at::Tensor found = hadamard_transform(n, x);
    expect_close(found.slice(1, 0, n), x.slice(1, 0, n).mm(sylvester(n)), 1e-12, 1e-12);
    expect_close(found.slice(1, n), x.slice(1, n).mm(sylvester(n)), 1e-12, 1e-12);
  }
}

TEST(HadamardTest, SizeDividesTheHead) {
  EXPECT_EQ(hadamard_size(128), 128);
  EXPECT_EQ(hadamard_size(96), 32);
  EXPECT_EQ(hadamard_size(80), 16);
  EXPECT_EQ(hadamard_size(5), 1);
}

TEST(HadamardTest, RefusesASizeThatDoesNotFit) {
  const auto problem = hadamard_kind().problem;
  EXPECT_EQ(problem(hadamard_parameter(4), 12), "");
  EXPECT_EQ(problem(hadamard_parameter(8), 12), "block size 8 does not divide 12 channels");
  EXPECT_EQ(problem(hadamard_parameter(6), 12), "block size 6 is no power of two");
  EXPECT_EQ(problem(hadamard_parameter(0), 12), "block size 0 is no power of two");
  EXPECT_EQ(problem(at::ones({2}, at::kLong), 12), "shape [2], not one block size");
  EXPECT_THROW((void)hadamard_transform(6, at::zeros({1, 12})), BugError);
}

}  // namespace
}  // namespace lrq::transform

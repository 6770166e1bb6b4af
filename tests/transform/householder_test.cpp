// Reflections: vectors 9.5, and what a raw vector may be.
#include "src/transform/householder.h"

#include <gtest/gtest.h>

#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

at::Tensor matrix_for(const at::Tensor& w) { return reflect(w, at::eye(w.size(0), at::kDouble)); }

TEST(HouseholderTest, SendsOneVectorToTheOther) {  // vectors 9.5
  const at::Tensor w = vector64({-2, 4});
  expect_close(matrix_for(w), matrix64({{0.6, 0.8}, {0.8, -0.6}}), 1e-6, 1e-6);
  expect_close(reflect(w, vector64({3, 4})), vector64({5, 0}), 1e-6, 1e-6);
  expect_close(matrix_for(vector64({-1, -2, 1})) * 3,
               matrix64({{2, -2, 1}, {-2, -1, 2}, {1, 2, 2}}), 1e-6, 1e-6);
  const at::Tensor w4 = vector64({-3.5, -10.5, -6.5, 5.5});
  expect_close(matrix_for(w4),
               matrix64({{0.87435897, -0.37692308, -0.23333333, 0.19743590},
                         {-0.37692308, -0.13076923, -0.7, 0.59230769},
                         {-0.23333333, -0.7, 0.56666667, 0.36666667},
                         {0.19743590, 0.59230769, 0.36666667, 0.68974359}}),
               1e-6, 1e-6);
  const at::Tensor u = vector64({3, -4, 0, 12});
  const at::Tensor t = vector64({6.5, 6.5, 6.5, 6.5});
  expect_close(reflect(w4, u), t, 1e-12, 1e-12);
  expect_close(reflect(w4, t), u, 1e-12, 1e-12);
  EXPECT_NEAR(at::linalg_det(matrix_for(w4)).item<double>(), -1, 1e-12);
}

TEST(HouseholderTest, ReflectsATokenOntoItsTarget) {  // vector 9.8
  const at::Tensor x = matrix64({{1, -2, 0, 2}, {4, 0, -3, 12}});
  expect_close(reflect(vector64({-2.5, -6.5, -9.5, 5.5}), x),
               matrix64({{1.63609467, -0.34615385, 2.41715976, 0.60059172}, {6.5, 6.5, 6.5, 6.5}}),
               1e-6, 1e-6);
}

TEST(HouseholderTest, TheLengthOfTheVectorDoesNotCount) {
  const at::Tensor w = random({16}, 1, at::kDouble);
  const at::Tensor x = random({5, 16}, 2, at::kDouble);
  for (const double factor : {-1.0, 1e-6, 1e6}) {
    expect_close(reflect(w * factor, x), reflect(w, x), 1e-12, 1e-12);
  }
}

TEST(HouseholderTest, AVectorOfZerosIsTheIdentityWithAFiniteGradient) {
  for (const double size : {0.0, 1e-30}) {
    const at::Tensor w = leaf(at::full({4}, size));
    const at::Tensor x = random({3, 4}, 1);
    const at::Tensor y = reflect(w, x);
    EXPECT_TRUE(at::equal(y, x));
    y.square().sum().backward();
    EXPECT_TRUE(w.grad().isfinite().all().item<bool>()) << w.grad();
  }
}

}  // namespace
}  // namespace lrq::transform

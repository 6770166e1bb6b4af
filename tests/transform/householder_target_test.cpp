// Targets of reflections: vectors 9.5 and 9.8, and the guard.
#include "src/transform/householder_target.h"

#include <gtest/gtest.h>

#include "src/base/draw_key.h"
#include "src/transform/householder.h"
#include "tests/transform/random_parameter.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

Draws uniform_numbers(const Values& values) { return fixed_draws({vector64(values)}, {}); }

TEST(HouseholderTargetTest, VectorLeadsFromTheTokenToItsTarget) {
  const at::Tensor u = vector64({3, -4, 0, 12});
  const at::Tensor w = uniform_reflection(u, uniform_numbers({1, 1, 1, 1}));  // vector 9.5
  expect_close(w, vector64({-3.5, -10.5, -6.5, 5.5}), 1e-12, 1e-12);
}

TEST(HouseholderTargetTest, TakesTheTokenWithTheLargestValue) {  // vector 9.8
  const at::Tensor x = matrix_of({{1, -2, 0, 2}, {4, 0, -3, 12}});
  const at::Tensor w = householder_target(x, uniform_numbers({0.5, 0.5, 0.5, 0.5}));
  EXPECT_EQ(w.scalar_type(), at::kFloat);
  expect_close(w, vector_of({-2.5, -6.5, -9.5, 5.5}), 1e-6, 1e-6);
  const at::Tensor negative = householder_target(-x, uniform_numbers({0.5, 0.5, 0.5, 0.5}));
  expect_close(reflect(negative, -x)[1], vector_of({6.5, 6.5, 6.5, 6.5}), 1e-6, 1e-6);
}

TEST(HouseholderTargetTest, NothingToReflectIsTheIdentity) {
  const at::Tensor zeros = at::zeros({4});
  const at::Tensor x = matrix_of({{1, 2, 3, 4}});
  EXPECT_TRUE(at::equal(householder_target(x, uniform_numbers({0.1, 0.2, 0.3, 0.4})), zeros));
  EXPECT_TRUE(at::equal(householder_target(x, uniform_numbers({0, 0, 0, 0})), zeros));
  EXPECT_TRUE(
      at::equal(householder_target(at::zeros({2, 4}), uniform_numbers({1, 0, 0, 0})), zeros));
}

TEST(HouseholderTargetTest, TheKeyAloneDecides) {
  const at::Tensor x = random({9, 32}, 1);
  const auto of_block = [&](std::uint64_t block) {
    return householder_target(x, draws_from(draw_key(2, {block, 0, 2, 0})));
  };
  EXPECT_TRUE(at::equal(of_block(0), of_block(0)));
  EXPECT_FALSE(at::equal(of_block(0), of_block(1)));
}

}  // namespace
}  // namespace lrq::transform

// RUQuant's first stage: vectors 9.6 and 9.7, the guards, and what holds for any sample.
#include "src/transform/uniform_rotation.h"

#include <gtest/gtest.h>

#include "src/base/draw_key.h"
#include "src/base/error.h"
#include "tests/transform/random_parameter.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

using DrawsOfStep = std::function<Draws(std::int64_t)>;

at::Tensor indices(std::initializer_list<std::int64_t> values) {
  return at::tensor(at::ArrayRef<std::int64_t>(values), at::kLong);
}

// The spec's columns as rows.
const Matrix kBlocks = {{1, 0, 2, -1}, {-2, 9, 1, 2}, {0.5, 1, -3, 0}};

Draws numbers_of_vector_97(std::int64_t step) {
  EXPECT_EQ(step, 0);
  return fixed_draws({vector64({0.2, 0.4, 0.4, 0.8}), vector64({0.6, 0.8, 0.8, 0.6})},
                     {indices({2, 0, 3, 1})});
}

at::Tensor rotation_of_vector_97(GivensTurn givens, std::int64_t permutations) {
  const UniformOptions options = {
      .block = 4, .steps = 1, .random_permutations = permutations, .givens = givens};
  return uniform_rotation(matrix64(kBlocks), options, numbers_of_vector_97);
}

TEST(UniformRotationTest, ReflectsTheOutliersBlockToItsTarget) {  // vector 9.7, first part
  const at::Tensor rotation = rotation_of_vector_97(GivensTurn::kTarget, 0);
  expect_close(rotate(rotation, matrix64(kBlocks)),
               matrix64({{0.62650508, 0.49883445, 1.73217335, -1.53565331},
                         {1.89736660, 3.79473319, 3.79473319, 7.58946638},
                         {1.61556694, -0.48993518, -2.20004652, 1.59990696}}),
               1e-6, 1e-6);
}

TEST(UniformRotationTest, TurnsPairsToTheirTarget) {  // vector 9.7
  const at::Tensor rotation = rotation_of_vector_97(GivensTurn::kTarget, 1);
  EXPECT_EQ(rotation.scalar_type(), at::kFloat);
  expect_close(rotation,
               matrix_of({{-0.51973303, 0.44058746, -0.61624739, 0.39496763},
                          {0.09685591, 0.60614182, 0.64416572, 0.45635683},
                          {0.84242478, 0.12177309, -0.44190019, 0.28322435},
                          {-0.10400483, -0.65088102, 0.10006954, 0.74533414}}),
               1e-6, 1e-6);
  expect_close(rotate(rotation, matrix64(kBlocks))[1],
               vector64({2.54558441, 3.39411255, 6.78822510, 5.09116882}), 1e-6, 1e-6);
}

TEST(UniformRotationTest, ReferenceTurnIsThePublishedCodes) {  // vector 9.7
  const at::Tensor rotation = rotation_of_vector_97(GivensTurn::kReference, 1);
  expect_close(rotation,
               matrix_of({{0.04063015, 0.68013890, -0.43777895, 0.58660878},
                          {0.54302701, 0.28620036, 0.76357671, 0.20040366},
                          {0.60287334, -0.60087597, -0.31392360, 0.42064686},
                          {-0.58310771, -0.30732475, 0.35602270, 0.66240828}}),
               1e-6, 1e-6);
  const at::Tensor turned = rotate(rotation, matrix64(kBlocks));
  expect_close(turned[1], vector64({4.24264069, 0, 8.14587012, 2.37587878}), 1e-6, 1e-6);
  const at::Tensor folded = rotate(rotation, matrix64({{1, 2, 3, 4}, {0.5, -1, 0, 2}}));
  expect_close(folded,
               matrix64({{0.60287334, -1.77938727, 1.57169448, 4.89898981},
                         {-1.68892735, -0.56078041, -0.27042078, 1.41771730}}),
               1e-6, 1e-6);
  expect_close(turned.matmul(folded.t()), matrix64({{3, -1.5}, {27, -6}, {-6.5, -0.75}}), 1e-6,
               1e-6);
}

// One step on one block whose reflection has nothing to do: r is u itself, so that u = t.
at::Tensor turned_alone(const Values& u, const Values& pair_numbers, GivensTurn givens) {
  const UniformOptions options = {
      .block = 4, .steps = 1, .random_permutations = 1, .givens = givens};
  const at::Tensor x = vector64(u).unsqueeze(0);
  const DrawsOfStep draws = [&](std::int64_t) {
    return fixed_draws({vector64(u), vector64(pair_numbers)}, {indices({0, 1, 2, 3})});
  };
  return rotate(uniform_rotation(x, options, draws), x)[0];
}

TEST(UniformRotationTest, PlaneRotationsGoOnWhereThereIsNothingToReflect) {  // vector 9.6
  expect_close(turned_alone({3, 4, 0, 2}, {1, 0, 1, 0}, GivensTurn::kTarget),
               vector64({5, 0, 2, 0}), 1e-6, 1e-6);
  expect_close(turned_alone({3, 4, 0, 2}, {1, 0, 1, 0}, GivensTurn::kReference),
               vector64({-1.4, 4.8, -2, 0}), 1e-6, 1e-6);
}

TEST(UniformRotationTest, APairOfZerosStays) {
  expect_close(turned_alone({3, 4, 0, 0}, {1, 0, 0.3, 0.4}, GivensTurn::kTarget),
               vector64({5, 0, 0, 0}), 1e-6, 1e-6);
  expect_close(turned_alone({3, 4, 0, 2}, {1, 0, 0, 0}, GivensTurn::kTarget),
               vector64({5, 0, 0, 2}), 1e-6, 1e-6);  // no numbers to aim at
}

DrawsOfStep draws_of_block(std::uint64_t block) {
  return [block](std::int64_t step) {
    return draws_from(draw_key(2, {block, 0, 0, static_cast<std::uint64_t>(step)}));
  };
}

TEST(UniformRotationTest, ASilentSampleIsOnlyPermuted) {
  const at::Tensor found = uniform_rotation(at::zeros({5, 8}), {.block = 8}, draws_of_block(0));
  EXPECT_TRUE(at::equal(found.sum(0), at::ones({8})));
  EXPECT_TRUE(at::equal(found.amax(1), at::ones({8})));
}

TEST(UniformRotationTest, StoresAnOrthogonalMatrixOfEverySize) {
  for (const std::int64_t block : {2, 6, 32, 128}) {
    const at::Tensor x = random({20, 2 * block}, 1);
    for (const Blocks blocks : {Blocks::kShared, Blocks::kSeparate}) {
      for (const GivensTurn givens : {GivensTurn::kTarget, GivensTurn::kReference}) {
        const at::Tensor found = uniform_rotation(
            x, {.block = block, .givens = givens, .blocks = blocks}, draws_of_block(0));
        EXPECT_EQ(found.dim(), blocks == Blocks::kShared ? 2 : 3);
        EXPECT_EQ(find_kind("rotation")->problem(found, 2 * block), "");
      }
    }
  }
}

TEST(UniformRotationTest, LeavesTheSampleAndItsDtypeAlone) {
  const at::Tensor x = random({6, 8}, 1, at::kDouble);
  const at::Tensor copy = x.clone();
  (void)uniform_rotation(x, {.block = 8}, draws_of_block(0));
  EXPECT_TRUE(at::equal(x, copy));
}

TEST(UniformRotationTest, OneSeparateBlockIsTheSharedOneAndTheKeyAloneDecides) {
  const at::Tensor x = random({6, 8}, 1);
  const at::Tensor shared = uniform_rotation(x, {.block = 8}, draws_of_block(0));
  const at::Tensor separate =
      uniform_rotation(x, {.block = 8, .blocks = Blocks::kSeparate}, draws_of_block(0));
  EXPECT_TRUE(at::equal(separate, shared.unsqueeze(0)));
  EXPECT_TRUE(at::equal(shared, uniform_rotation(x, {.block = 8}, draws_of_block(0))));
  EXPECT_FALSE(at::equal(shared, uniform_rotation(x, {.block = 8}, draws_of_block(1))));
}

TEST(UniformRotationTest, RefusesOddBlocksAndNoDivisors) {
  const at::Tensor x = at::ones({2, 12});
  EXPECT_THROW((void)uniform_rotation(x, {.block = 3}, draws_of_block(0)), BugError);
  EXPECT_THROW((void)uniform_rotation(x, {.block = 8}, draws_of_block(0)), BugError);
}

}  // namespace
}  // namespace lrq::transform

// The objective and its balance by the specification's vector E, and by hand.
#include "src/pipeline/block_objective.h"

#include <array>
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/models/small_block.h"

namespace lrq::pipeline {
namespace {

using Terms = BlockObjective::Terms;

recipe::Recipe with(const recipe::Recipe::Loss& loss) {
  recipe::Recipe recipe;
  recipe.weights.bits = 4;
  recipe.loss = loss;
  return recipe;
}

at::Tensor tokens(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({1, 2, 3});
}

/// Terms of given values.
Terms terms(double mse, double nlc) {
  return {.mse = at::full({}, mse, at::kDouble),
          .nlc = at::full({}, nlc, at::kDouble),
          .measured = at::zeros({2}, at::kDouble)};
}

TEST(BlockObjectiveTest, SumsTheTermsThatHaveWeight) {
  const models::SmallBlock block(2);
  const at::Tensor target = tokens({1, 2, 2, 0, 3, 4});
  const at::Tensor output = tokens({1, 2, 1, 0, 4, 3});
  // Vector E: MSE 0.5, NLC 0.0446944074.
  const auto value = [&](const recipe::Recipe::Loss& loss) {
    const BlockObjective objective(*block.family, block.weights, with(loss), at::kFloat);
    const Terms measured = objective.measure(output, target, {});
    EXPECT_NEAR(measured.measured[0].item<double>(), 0.5, 1e-9);
    EXPECT_NEAR(measured.measured[1].item<double>(), 0.0446944074, 1e-9);
    return BlockObjective::combine(measured, {}).item<double>();
  };
  EXPECT_NEAR(value({.mse_p = 1.0, .nlc_p = 1.0}), 0.5446944074, 1e-9);
  EXPECT_NEAR(value({.mse_p = 0.0, .nlc_p = 2.0}), 0.0893888148, 1e-9);
  EXPECT_NEAR(value({.mse_p = 3.0, .nlc_p = 0.0}), 1.5, 1e-9);
}

TEST(BlockObjectiveTest, BalanceOfTheFirstStepIsThatOfVectorE) {
  const models::SmallBlock block(2);
  const BlockObjective objective(*block.family, block.weights,
                                 with({.balance = recipe::Balance::kEma}), at::kFloat);
  ASSERT_TRUE(objective.balances());
  // NLC(R) alone, then NLC(P) + NLC(R).
  for (const auto& [nlc, average, loss] : {std::array{0.0976602341, 0.9548830117, 1.1022734468},
                                           std::array{0.1423546415, 0.9571177321, 1.1487314785}}) {
    const std::array samples = {terms(1.0, nlc)};
    const at::Tensor averages = objective.averages_after(samples);
    EXPECT_NEAR(averages[0].item<double>(), 1.0, 1e-9);
    EXPECT_NEAR(averages[1].item<double>(), average, 1e-9);
    EXPECT_NEAR(BlockObjective::combine(samples[0], averages).item<double>(), loss, 1e-9);
  }
}

TEST(BlockObjectiveTest, BalanceFollowsTheMeanOfTheMicroBatchFromStepToStep) {
  const models::SmallBlock block(2);
  BlockObjective objective(*block.family, block.weights, with({.balance = recipe::Balance::kEma}),
                           at::kFloat);
  const std::array samples = {terms(1.0, 0.2), terms(3.0, 0.2), terms(2.0, 0.5)};
  objective.averages().copy_(objective.averages_after(samples));
  EXPECT_NEAR(objective.averages()[0].item<double>(), 0.95 + 0.05 * 2.0, 1e-12);
  EXPECT_NEAR(objective.averages()[1].item<double>(), 0.95 + 0.05 * 0.3, 1e-12);
  const at::Tensor second = objective.averages_after(samples);
  EXPECT_NEAR(second[0].item<double>(), 0.95 * 1.05 + 0.05 * 2.0, 1e-12);
}

TEST(BlockObjectiveTest, HomologousTermsCompareWithTheOriginalBlockOnTheSameInput) {
  const models::SmallBlock block(2);
  const BlockObjective objective(*block.family, block.weights,
                                 with({.mse_p = 0.0, .nlc_p = 0.0, .mse_r = 1.0, .nlc_r = 1.0}),
                                 at::kFloat);
  const at::Tensor original = block.plain();
  const Terms equal = objective.measure(original, at::zeros_like(original), block.input);
  EXPECT_NEAR(BlockObjective::combine(equal, {}).item<double>(), 0.0, 1e-6);
  // Twice the output: same direction, so only the squares differ.
  const Terms twice = objective.measure(original * 2, at::zeros_like(original), block.input);
  EXPECT_NEAR(twice.mse.item<double>(), original.square().mean().item<double>(), 1e-5);
  EXPECT_NEAR(twice.nlc.item<double>(), 0.0, 1e-6);
}

}  // namespace
}  // namespace lrq::pipeline

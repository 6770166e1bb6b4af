#include "src/pipeline/cost_model.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/pipeline/planning.h"

namespace lrq::pipeline {
namespace {

constexpr double kWeights7b = 202375168.0;

TEST(CostModelTest, CountsTheOperationsOf7B) {
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  EXPECT_DOUBLE_EQ(product_operations(work), 2.0 * 2048 * kWeights7b);
  EXPECT_DOUBLE_EQ(attention_operations(work), 68719476736.0);  // 4 * 2048^2 * 4096
}

TEST(CostModelTest, LearningTakesThreeTimesTheProductsOfAForward) {
  Machine machine = instant_machine();
  machine.float32_products = 1e12;
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  EXPECT_NEAR(plain_forward(work, machine).total(), 0.828928688, 1e-9);
  EXPECT_NEAR(frozen_forward(work, machine).total(), 0.828928688, 1e-9);
  EXPECT_NEAR(learning_step(work, machine, 1).total(), 2.486786064, 1e-9);
  EXPECT_NEAR(learning_step(work, machine, 4).total(), 4 * 2.486786064, 1e-8);
  machine.float32_step_factor = 1.25;
  machine.bfloat16_step_factor = 2.0;
  EXPECT_NEAR(learning_step(work, machine, 1).total(), 1.25 * 2.486786064, 1e-9);
}

TEST(CostModelTest, ALossAgainstTheOriginalBlockAddsAForward) {
  Machine machine = instant_machine();
  machine.float32_products = 1e12;
  auto recipe = recipe_with_bits(4, 4);
  recipe.loss.nlc_r = 1.0;
  EXPECT_NEAR(learning_step(work_of_7b(recipe), machine, 1).total(), 4 * 0.828928688, 1e-8);
}

TEST(CostModelTest, AttentionBackwardTakesTwoAndAHalfForwards) {
  Machine machine = instant_machine();
  machine.attention = 1e12;
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  EXPECT_NEAR(learning_step(work, machine, 1).total(), 3.5 * 0.068719476736, 1e-12);
}

TEST(CostModelTest, WeightsAreFoldedOnceAStepAndPassedBackForEachSample) {
  Machine machine = instant_machine();
  machine.quantizer = 1e9;
  const BlockWork work = work_of_7b(recipe_with_bits(4, 16));
  const double once = 8 * kWeights7b / 1e9;
  EXPECT_NEAR(fold_weights(work, machine).total(), once, 1e-9);
  EXPECT_NEAR(learning_step(work, machine, 1).total(), 2 * once, 1e-9);
  EXPECT_NEAR(learning_step(work, machine, 4).total(), 5 * once, 1e-9);
  auto post = work;
  post.recipe.train.emit = recipe::Emit::kPost;
  EXPECT_NEAR(learning_step(post, machine, 1).total(), 3 * once, 1e-9);
}

TEST(CostModelTest, QuantizedActivationsPassTheQuantizerBothWays) {
  Machine machine = instant_machine();
  machine.quantizer = 1e9;
  // Inputs of q, k, v; o; gate, up; down; and q, k, v themselves.
  const double elements = 2048.0 * (4096 + 4096 + 4096 + 11008 + 3 * 4096);
  const BlockWork work = work_of_7b(recipe_with_bits(16, 4));
  EXPECT_NEAR(frozen_forward(work, machine).total(), 8 * elements / 1e9, 1e-9);
  EXPECT_NEAR(learning_step(work, machine, 1).total(), 20 * elements / 1e9, 1e-9);
  EXPECT_DOUBLE_EQ(plain_forward(work, machine).quantizer, 0.0);
}

TEST(CostModelTest, CountsElementwisePassesOfABlockWithoutSharedHeads) {
  Machine machine = instant_machine();
  machine.elementwise = 1e9;
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  const double step = 4.0 * 2048 * ((102 + 11 + 12) * 4096.0 + 16 * 11008.0);
  EXPECT_NEAR(learning_step(work, machine, 1).total(), (step + 4 * 60 * 1000) / 1e9, 1e-9);
  const double forward = 4.0 * 2048 * ((20 + 5 + 5) * 4096.0 + 5 * 11008.0);
  const double statistics = 8.0 * 2048 * (3 * 4096.0 + 11008.0);
  EXPECT_NEAR(plain_forward(work, machine).total(), (forward + statistics) / 1e9, 1e-9);
}

TEST(CostModelTest, Bfloat16ConvertsWeightsUnlessTheQuantizerDoes) {
  Machine machine = instant_machine();
  machine.elementwise = 1e9;
  BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  work.compute_bytes = 2;
  EXPECT_NEAR(fold_weights(work, machine).total(), 6 * kWeights7b / 1e9, 1e-9);
  machine.fused_cast = true;
  EXPECT_DOUBLE_EQ(fold_weights(work, machine).elementwise, 0.0);
  machine = instant_machine();
  machine.fused_cast = true;
  machine.quantizer = 1e9;
  EXPECT_NEAR(fold_weights(work, machine).total(), 6 * kWeights7b / 1e9, 1e-9);
}

TEST(MachineTest, AnUnknownNameIsRefusedWithThoseThatExist) {
  try {
    (void)known_machine("h1000");
    FAIL() << "there is no such machine";
  } catch (const UsageError& error) {
    EXPECT_EQ(error.text().where, "option --machine");
    EXPECT_NE(error.text().fix.find("a100, h100, h200, cpu"), std::string::npos);
  }
}

TEST(NotCountedTest, NamesWhatTheFormulasLeaveOut) {
  auto recipe = recipe_with_bits(4, 4);
  EXPECT_EQ(not_counted(recipe), "");
  recipe.weights.rounding = recipe::Rounding::kGptq;
  recipe.train.keep_best = true;
  EXPECT_EQ(not_counted(recipe), "GPTQ rounding, the passes of train.keep_best");
}

}  // namespace
}  // namespace lrq::pipeline

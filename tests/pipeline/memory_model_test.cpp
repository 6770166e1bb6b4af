#include "src/pipeline/memory_model.h"

#include <gtest/gtest.h>

#include "tests/pipeline/planning.h"

namespace lrq::pipeline {
namespace {

constexpr double kWeights7b = 202375168.0;
constexpr double kParameters7b = 202383360.0;
constexpr double kLargest7b = 45088768.0;
constexpr double kBoundary7b = 4.0 * 2048 * 4096;

TEST(MemoryModelTest, ALearningBlockOf7BHolds) {
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  const MemoryUse use = learn_memory(work, {.learn_blocks = 2});
  EXPECT_DOUBLE_EQ(use.weights, 2 * 4 * kParameters7b);
  EXPECT_DOUBLE_EQ(use.learnables, 2 * 2 * 4 * 1000);
  EXPECT_DOUBLE_EQ(use.optimiser, 2 * 3 * 4 * 1000);
  EXPECT_DOUBLE_EQ(use.work, 4 * kWeights7b + 8 * kLargest7b + 4 * 4 * 1000);
  EXPECT_DOUBLE_EQ(use.activations,
                   4.0 * 2048 * ((12 + 5 + 6) * 4096 + 8 * 11008) + 7 * kBoundary7b);
  EXPECT_DOUBLE_EQ(use.targets, 0.0);
}

TEST(MemoryModelTest, ALossAgainstTheOriginalKeepsItsWeights) {
  auto recipe = recipe_with_bits(4, 4);
  recipe.loss.mse_r = 1.0;
  BlockWork work = work_of_7b(recipe);
  work.compute_bytes = 2;
  EXPECT_DOUBLE_EQ(learn_memory(work, {.learn_blocks = 1}).weights,
                   4 * kParameters7b + 2 * kWeights7b);
}

TEST(MemoryModelTest, KeptTargetsAreThoseOfEachBlockAndTheInputs) {
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  const RankShare share{.learn_blocks = 2, .kept_samples = 128};
  EXPECT_DOUBLE_EQ(learn_memory(work, share).targets, 3 * 128 * kBoundary7b);
}

TEST(MemoryModelTest, TheFirstRankOfTheChainHoldsTheEmbedding) {
  const ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  const MemoryUse second = chain_memory(work, model, {.chain_blocks = 4});
  const MemoryUse first = chain_memory(work, model, {.chain_blocks = 4, .embeds = true});
  const double samples = 4.0 * 2048 * (6 * 4096 + 4 * 11008) + 5 * kBoundary7b;
  EXPECT_DOUBLE_EQ(first.weights, 4 * 4 * kWeights7b + 4.0 * 32000 * 4096);
  // When it comes, the last block's 4 P have been read and are free again.
  EXPECT_DOUBLE_EQ(first.work, 0.0);
  EXPECT_DOUBLE_EQ(first.activations, samples);
  EXPECT_DOUBLE_EQ(second.weights, 4 * 4 * kWeights7b);
  EXPECT_DOUBLE_EQ(second.activations, samples);
  EXPECT_DOUBLE_EQ(second.total(), 4 * 4 * kWeights7b + 4 * kParameters7b);
}

TEST(MemoryModelTest, WhatHasToFitLeavesOutPagesThatTheSystemTakesBack) {
  const ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  Machine machine = instant_machine();
  machine.base_bytes = 1e9;
  const RankShare share{.chain_blocks = 8, .learn_blocks = 1, .touched_blocks = 10};
  const RankMemory memory = rank_memory(work, model, share, machine);
  EXPECT_DOUBLE_EQ(memory.most(), 1e9 + 8 * 4 * kWeights7b + 4 * kParameters7b);
  EXPECT_DOUBLE_EQ(memory.peak(), memory.most() + 10 * 2 * kParameters7b);
  EXPECT_DOUBLE_EQ(memory.heaviest().total(), memory.chain.total());
}

}  // namespace
}  // namespace lrq::pipeline

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
                   4.0 * 2048 * ((12 + 5 + 6) * 4096 + 8 * 11008) + (7 + 2 * 3) * kBoundary7b);
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

TEST(MemoryModelTest, OriginalsThatMakeTargetsAreHeldBesideAndTheirOutputsTravel) {
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  const MemoryUse read = learn_memory(work, {.learn_blocks = 2, .on_device = true});
  const MemoryUse made =
      learn_memory(work, {.learn_blocks = 2, .recomputes = true, .on_device = true});
  EXPECT_DOUBLE_EQ(made.weights - read.weights, 2 * 4 * kWeights7b);
  EXPECT_DOUBLE_EQ(made.activations - read.activations, 4 * kBoundary7b);
}

TEST(MemoryModelTest, OnlyResidentBlocksCountAndATurnsSamplesWait) {
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  const ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  const RankShare all{.chain_blocks = 8, .learn_blocks = 4};
  RankShare one = all;
  one.resident_blocks = 1;
  const auto learn = [&](const RankShare& share) { return learn_memory(work, share); };
  EXPECT_DOUBLE_EQ(learn(all).weights - learn(one).weights, 3 * 4 * kParameters7b);
  EXPECT_DOUBLE_EQ(learn(one).learnables, learn(all).learnables);
  EXPECT_DOUBLE_EQ(learn(one).activations - learn(all).activations, 2 * 15 * kBoundary7b);
  const MemoryUse frozen = freeze_memory(work, one);
  EXPECT_DOUBLE_EQ(frozen.weights, 4 * kWeights7b);
  EXPECT_DOUBLE_EQ(frozen.activations - freeze_memory(work, all).activations, 15 * kBoundary7b);
  EXPECT_DOUBLE_EQ(chain_memory(work, model, one).weights, 4 * kWeights7b);
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
  // When it comes, the last block's 4 P have been read and are free again; its own pages, 2 bytes
  // an element, are fewer than what a sample takes.
  EXPECT_DOUBLE_EQ(first.work, 0.0);
  EXPECT_DOUBLE_EQ(first.activations, samples);
  EXPECT_DOUBLE_EQ(second.weights, 4 * 4 * kWeights7b);
  EXPECT_DOUBLE_EQ(second.activations, samples);
  EXPECT_DOUBLE_EQ(second.total(), 4 * 4 * kWeights7b + 4 * kParameters7b);
}

TEST(MemoryModelTest, TheEmbeddingsPagesCountWhereSamplesAreShort) {
  const ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  work.tokens = 1;
  const double pages = 2.0 * 32000 * 4096;
  const MemoryUse use = chain_memory(work, model, {.chain_blocks = 4, .embeds = true});
  EXPECT_DOUBLE_EQ(use.work + use.activations, 4 * kParameters7b - 2 * pages);
  work.block.parameters = 0;
  const MemoryUse small = chain_memory(work, model, {.chain_blocks = 4, .embeds = true});
  EXPECT_DOUBLE_EQ(small.work + small.activations, pages);
}

TEST(MemoryModelTest, ARankNeedsItsHeaviestPhaseAndWhatAProcessNeeds) {
  const ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  const BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  Machine machine = instant_machine();
  machine.base_bytes = 1e9;
  const RankMemory memory =
      rank_memory(work, model, {.chain_blocks = 8, .learn_blocks = 1}, machine);
  EXPECT_DOUBLE_EQ(memory.most(), 1e9 + 8 * 4 * kWeights7b + 4 * kParameters7b);
  EXPECT_DOUBLE_EQ(memory.heaviest().total(), memory.chain.total());
  EXPECT_DOUBLE_EQ(memory.kept, 0.0);  // tensors of 64 MiB and more go back at once
}

TEST(MemoryModelTest, TheAllocatorKeepsAShareOfSmallTensors) {
  ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  work.block.largest_weight = 1000;
  RankShare share{.chain_blocks = 8, .learn_blocks = 1};
  const double kept = 0.15 * (8 * 4 * kWeights7b + learn_memory(work, share).total());
  EXPECT_DOUBLE_EQ(rank_memory(work, model, share, instant_machine()).kept, kept);
  share.embeds = true;
  EXPECT_DOUBLE_EQ(rank_memory(work, model, share, instant_machine()).kept, kept + 400 * 32000);
  share.on_device = true;
  EXPECT_DOUBLE_EQ(rank_memory(work, model, share, instant_machine()).kept, 0.0);
}

}  // namespace
}  // namespace lrq::pipeline

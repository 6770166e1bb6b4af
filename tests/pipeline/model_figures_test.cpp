#include "src/pipeline/model_figures.h"

#include <gtest/gtest.h>

#include "src/pipeline/block_method.h"
#include "tests/pipeline/planning.h"

namespace lrq::pipeline {
namespace {

// Published: https://huggingface.co/meta-llama, "model size" of each checkpoint.
TEST(ModelFiguresTest, CountsThePublishedParameters) {
  const auto parameters = [](const std::string& name) {
    return model_figures(*family_of_config(name)).parameters();
  };
  EXPECT_EQ(parameters("llama-2-7b"), 6738415616);
  EXPECT_EQ(parameters("llama-2-13b"), 13015864320);
  EXPECT_EQ(parameters("llama-2-70b"), 68976648192);
  EXPECT_EQ(parameters("llama-3.1-8b"), 8030261248);
  EXPECT_EQ(parameters("llama-3.1-70b"), 70553706496);
  EXPECT_EQ(parameters("llama-3.1-405b"), 405853388800);
}

TEST(ModelFiguresTest, CountsABlockOf7B) {
  const ModelFigures figures = model_figures(*family_of_config("llama-2-7b"));
  EXPECT_EQ(figures.blocks, 32);
  EXPECT_EQ(figures.block.weights, 4 * 4096 * 4096 + 3 * 4096 * 11008);
  EXPECT_EQ(figures.block.parameters, 202375168 + 2 * 4096);
  EXPECT_EQ(figures.block.largest_weight, 4096 * 11008);
  EXPECT_EQ(figures.block.linear_outputs, 5 * 4096 + 2 * 11008);
  EXPECT_EQ(figures.embedding, 32000 * 4096);
  EXPECT_EQ(figures.head, 32000 * 4096 + 4096);
  EXPECT_FALSE(figures.block.shares_heads);
}

TEST(ModelFiguresTest, GroupedQueriesHaveFewerValues) {
  const BlockFigures block = model_figures(*family_of_config("llama-2-70b")).block;
  EXPECT_EQ(block.queries, 64 * 128);
  EXPECT_EQ(block.values, 8 * 128);
  EXPECT_TRUE(block.shares_heads);
}

TEST(LearnableFiguresTest, CountsScalesShiftsAndClipFactorsOf7B) {
  const auto family = family_of_config("llama-2-7b");
  const std::int64_t smoothing = 2 * (4096 + 4096) + (4096 + 4096) + 4096 / 2;
  const std::int64_t rows = 4 * 4096 + 2 * 11008 + 4096;
  auto recipe = recipe_with_bits(4, 4);
  EXPECT_EQ(learnable_figures(*family, block_method(recipe)).stepped, smoothing + 2 * rows);
  recipe.smoothing.start = recipe::Start::kSmoothquant;  // another start, as many
  EXPECT_EQ(learnable_figures(*family, block_method(recipe)).stepped, smoothing + 2 * rows);
  recipe.weights.per = recipe::Per::kGroup;
  recipe.weights.group_size = 128;
  EXPECT_EQ(learnable_figures(*family, block_method(recipe)).stepped,
            smoothing + 2 * 202375168 / 128);
}

TEST(LearnableFiguresTest, WhatIsNotLearnedIsHeldBesides) {
  const auto family = family_of_config("llama-2-7b");
  auto recipe = recipe_with_bits(8, 8);
  recipe.weights.clip = recipe::ClipKind::kNone;
  recipe.smoothing.scale = recipe::Scale::kFixed;
  recipe.smoothing.shift = recipe::Shift::kOff;
  const LearnableFigures figures = learnable_figures(*family, block_method(recipe));
  EXPECT_EQ(figures.stepped, 0);
  EXPECT_EQ(figures.fixed, 3 * 4096);
}

}  // namespace
}  // namespace lrq::pipeline

// GPTQ as a block's last step: the codes lower the error of the block's own output, on the grid of
// its learnables, for what has been quantized before.
#include "src/pipeline/gptq_rounding.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "src/models/learnables.h"
#include "src/pipeline/block_method.h"
#include "tests/models/small_block.h"

namespace lrq::pipeline {
namespace {

using models::NamedTensors;
using models::SmallBlock;

recipe::Recipe rounding_recipe() {
  recipe::Recipe recipe;
  recipe.weights.bits = 3;
  recipe.weights.clip = recipe::ClipKind::kNone;
  recipe.weights.rounding = recipe::Rounding::kGptq;
  recipe.smoothing.scale = recipe::Scale::kOff;
  recipe.smoothing.shift = recipe::Shift::kOff;
  recipe.train.wave = 1;
  return recipe;
}

struct RoundingScene {
  explicit RoundingScene(const recipe::Recipe& r) : recipe(r), block(2), method(block_method(r)) {
    for (int i = 0; i < 16; ++i) inputs.push_back(block.normal({1, 24, 16}).to(at::kFloat));
  }
  [[nodiscard]] NamedTensors codes() {
    return gptq_codes(
        {.family = *block.family,
         .weights = block.weights,
         .recipe = recipe,
         .samples = static_cast<std::int64_t>(inputs.size()),
         .read = [this](std::int64_t i) { return inputs.at(static_cast<std::size_t>(i)); }},
        {});
  }
  /// Mean squared error of the block's outputs over all inputs.
  [[nodiscard]] double error(const NamedTensors& learnables) {
    double sum = 0.0;
    for (const at::Tensor& input : inputs) {
      block.input = input;
      sum += (block.run(learnables, method) - block.plain()).square().mean().item<double>();
    }
    return sum;
  }

  recipe::Recipe recipe;
  SmallBlock block;
  models::BlockMethod method;
  std::vector<at::Tensor> inputs;
};

TEST(GptqRoundingTest, LowersTheErrorOfTheBlockOutput) {
  const c10::NoGradGuard no_grad;
  for (const bool sequential : {true, false}) {
    recipe::Recipe recipe = rounding_recipe();
    recipe.gptq.sequential = sequential;
    RoundingScene scene(recipe);
    EXPECT_LT(scene.error(scene.codes()), 0.9 * scene.error({})) << sequential;
  }
}

TEST(GptqRoundingTest, GivesEveryLinearCodesOfItsGrid) {
  const c10::NoGradGuard no_grad;
  RoundingScene scene(rounding_recipe());
  const NamedTensors codes = scene.codes();
  ASSERT_EQ(codes.size(), scene.block.family->block().linears.size());
  for (const models::LinearSpec& linear : scene.block.family->block().linears) {
    const at::Tensor& found = codes.at(models::codes_name(linear.name));
    EXPECT_EQ(found.scalar_type(), at::kByte);
    EXPECT_EQ(found.sizes(), (at::IntArrayRef{linear.out, linear.in}));
    EXPECT_LE(found.max().item<int>(), 7);
  }
}

// With inputs whose channels are independent and alike there is little to make good: normed random
// vectors are nearly so.
TEST(GptqRoundingTest, MostlyRoundsToTheNearestWhereAChannelSaysLittleOfAnother) {
  const c10::NoGradGuard no_grad;
  RoundingScene scene(rounding_recipe());
  const NamedTensors codes = scene.codes();
  const auto prepared =
      models::prepared_weights(*scene.block.family, scene.block.weights, {}, scene.method);
  const auto& weight = prepared.at("self_attn.q_proj");
  const auto nearest = quant::quantize_weight(weight.weight, weight.transform, scene.method.weight);
  const double equal =
      codes.at("self_attn.q_proj.codes").eq(nearest.codes).to(at::kDouble).mean().item<double>();
  EXPECT_GT(equal, 0.8);
}

}  // namespace
}  // namespace lrq::pipeline

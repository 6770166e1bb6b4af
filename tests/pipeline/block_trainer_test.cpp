#include "src/pipeline/block_trainer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/models/site_maps.h"
#include "src/pipeline/block_method.h"
#include "tests/models/small_block.h"

namespace lrq::pipeline {
namespace {

using models::NamedTensors;
using models::SmallBlock;

recipe::Recipe four_bits() {
  recipe::Recipe recipe;
  recipe.weights.bits = 4;
  recipe.activations.bits = 4;
  recipe.train.epochs = 2;
  return recipe;
}

/// A small block with samples, its start values, and trainers of it.
struct Scene {
  explicit Scene(recipe::Recipe r = four_bits()) : recipe(std::move(r)), block(2) {
    const c10::NoGradGuard no_grad;
    NamedTensors statistics;
    for (const models::Site site : {models::Site::kQkvIn, models::Site::kOutIn,
                                    models::Site::kMlpIn, models::Site::kDownIn}) {
      const std::int64_t size = site == models::Site::kDownIn ? 24 : 16;
      statistics[std::string(models::site_name(site)) + ".absmax"] = at::full({size}, 2.0F);
      statistics[std::string(models::site_name(site)) + ".shift"] = at::zeros({size});
    }
    start =
        models::initial_learnables(*block.family, block.weights, statistics, block_method(recipe));
    if (!block_method(recipe).map.none()) {
      start.merge(models::build_site_maps(*block.family, block.weights, start, block_method(recipe),
                                          std::span(&block.input, 1), at::kFloat, {.seed = 2}));
    }
    for (int i = 0; i < 4; ++i) {
      inputs.push_back(block.normal({1, 6, 16}).to(at::kFloat));
      targets.push_back(
          block.family->forward(models::plain_block(*block.family, block.weights, at::kFloat),
                                inputs.back(), models::plain_sites()));
    }
  }

  [[nodiscard]] BlockTrainer trainer() const {
    return {*block.family, block.weights, start, {.recipe = recipe, .steps = 8}};
  }
  [[nodiscard]] at::Tensor output_of(const NamedTensors& learnables, std::size_t sample) const {
    const c10::NoGradGuard no_grad;
    const auto method = block_method(recipe);
    const auto folded = models::fold(*block.family, block.weights, learnables, method, at::kFloat);
    return block.family->forward(folded, inputs[sample],
                                 models::quantizing_sites(*block.family, method, folded));
  }
  std::vector<at::Tensor> step(BlockTrainer& trainer, std::size_t first, std::size_t count) const {
    return trainer.step(std::span(inputs).subspan(first, count),
                        std::span(targets).subspan(first, count), BlockTrainer::Emit::kYes);
  }

  recipe::Recipe recipe;
  SmallBlock block;
  NamedTensors start;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> targets;
};

bool same(const NamedTensors& a, const NamedTensors& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (!b.contains(name) || !at::equal(tensor, b.at(name))) return false;
  }
  return true;
}

TEST(BlockTrainerTest, LearningLowersTheLoss) {
  recipe::Recipe recipe = four_bits();
  recipe.weights.bits = 3;
  recipe.activations.bits = 16;
  const Scene scene(recipe);
  BlockTrainer trainer = scene.trainer();
  std::vector<double> losses;
  for (int epoch = 0; epoch < 25; ++epoch) {
    for (std::size_t i = 0; i < 4; ++i) (void)scene.step(trainer, i, 1);
    losses.push_back(trainer.end_epoch().loss);
  }
  EXPECT_LT(losses.back(), 0.9 * losses.front());
}

TEST(BlockTrainerTest, EmitsTheOutputBeforeTheStep) {
  const Scene scene;
  BlockTrainer trainer = scene.trainer();
  const auto emitted = scene.step(trainer, 0, 2);
  ASSERT_EQ(emitted.size(), 2U);
  EXPECT_TRUE(at::equal(emitted[0], scene.output_of(scene.start, 0)));
  EXPECT_TRUE(at::equal(emitted[1], scene.output_of(scene.start, 1)));
  EXPECT_FALSE(emitted[0].requires_grad());
}

TEST(BlockTrainerTest, EmitsTheOutputAfterTheStepIfAsked) {
  recipe::Recipe recipe = four_bits();
  recipe.train.emit = recipe::Emit::kPost;
  const Scene scene(recipe);
  BlockTrainer trainer = scene.trainer();
  const auto emitted = scene.step(trainer, 0, 1);
  EXPECT_TRUE(at::equal(emitted[0], scene.output_of(trainer.learnables(), 0)));
  EXPECT_FALSE(at::equal(emitted[0], scene.output_of(scene.start, 0)));
}

// What the trainer keeps of its weights between two steps must hold nothing that has learned since.
TEST(BlockTrainerTest, EmitsWhatAFreshFoldOfItsLearnablesGivesAtEveryStep) {
  recipe::Recipe reflections = four_bits();
  reflections.smoothing.shift = recipe::Shift::kOff;
  reflections.rotation = {.kind = recipe::RotationKind::kUniform,
                          .block_size = 4,
                          .householder = recipe::Householder::kLearned,
                          .qk = recipe::QkRotation::kHadamard};
  for (const auto scale : {recipe::Scale::kFixed, recipe::Scale::kLearned}) {
    for (const auto emit : {recipe::Emit::kPre, recipe::Emit::kPost}) {
      reflections.smoothing.scale = scale;
      reflections.train.emit = emit;
      const Scene scene(reflections);
      BlockTrainer trainer = scene.trainer();
      for (std::size_t i = 0; i < 4; ++i) {
        const NamedTensors before = trainer.learnables();
        const auto emitted = scene.step(trainer, i, 1);
        EXPECT_FALSE(same(before, trainer.learnables()));
        EXPECT_TRUE(at::equal(
            emitted[0],
            scene.output_of(emit == recipe::Emit::kPre ? before : trainer.learnables(), i)));
      }
    }
  }
}

TEST(BlockTrainerTest, GradientOfAMicroBatchIsTheMeanOfItsSamples) {
  const Scene scene;
  // After one step from zero, AdamW's first moment is a tenth of the gradient.
  const auto gradient = [&](std::size_t first, std::size_t count) {
    BlockTrainer trainer = scene.trainer();
    (void)scene.step(trainer, first, count);
    return trainer.state().at("adamw.first") * 10.0;
  };
  at::Tensor mean = at::zeros_like(gradient(0, 1));
  for (std::size_t i = 0; i < 4; ++i) mean += gradient(i, 1) / 4.0;
  EXPECT_TRUE(at::allclose(gradient(0, 4), mean, 1e-4, 1e-7));
  EXPECT_GT(mean.abs().max().item<double>(), 0.0);
}

TEST(BlockTrainerTest, ARestoredTrainerGoesOnWithTheSameBits) {
  const Scene scene;
  BlockTrainer whole = scene.trainer();
  BlockTrainer first_half = scene.trainer();
  for (std::size_t i = 0; i < 3; ++i) {
    (void)scene.step(whole, i, 1);
    (void)scene.step(first_half, i, 1);
  }
  BlockTrainer second_half = scene.trainer();
  second_half.restore(first_half.state());
  for (std::size_t i = 0; i < 4; ++i) {
    (void)scene.step(whole, i, 1);
    (void)scene.step(second_half, i, 1);
  }
  EXPECT_TRUE(same(whole.state(), second_half.state()));
  EXPECT_EQ(whole.end_epoch().loss, second_half.end_epoch().loss);
}

TEST(BlockTrainerTest, AStepWithoutAFiniteLossIsMaskedAndCounted) {
  Scene scene;
  BlockTrainer trainer = scene.trainer();
  (void)scene.step(trainer, 0, 1);
  const NamedTensors before = trainer.learnables();
  scene.targets[1][0][0][0] = NAN;
  (void)scene.step(trainer, 1, 1);
  EXPECT_TRUE(same(before, trainer.learnables()));
  const LossSummary summary = trainer.end_epoch();
  EXPECT_EQ(summary.steps, 1);
  EXPECT_EQ(summary.masked, 1);
  EXPECT_FALSE(summary.stopped);
  EXPECT_TRUE(std::isfinite(summary.loss));
}

TEST(BlockTrainerTest, TenMaskedStepsInARowRestoreTheBestEpochAndStopLearning) {
  Scene scene;
  BlockTrainer trainer = scene.trainer();
  (void)scene.step(trainer, 0, 1);
  (void)trainer.end_epoch();
  const NamedTensors best = trainer.learnables();
  scene.targets[2] = scene.targets[2] * 100.0;  // finite, and far worse than the first epoch
  (void)scene.step(trainer, 2, 1);
  EXPECT_FALSE(same(best, trainer.learnables()));
  scene.targets[1][0][0][0] = NAN;
  for (int i = 0; i < 10; ++i) (void)scene.step(trainer, 1, 1);
  EXPECT_TRUE(trainer.end_epoch().stopped);
  EXPECT_TRUE(same(best, trainer.learnables()));
  const auto emitted = scene.step(trainer, 0, 1);
  EXPECT_TRUE(same(best, trainer.learnables())) << "it goes on emitting, not learning";
  EXPECT_TRUE(at::equal(emitted[0], scene.output_of(best, 0)));
}

TEST(BlockTrainerTest, MaskedStepsAreCountedOverTheEndOfAnEpoch) {
  Scene scene;
  BlockTrainer trainer = scene.trainer();
  scene.targets[1][0][0][0] = NAN;
  for (int i = 0; i < 9; ++i) (void)scene.step(trainer, 1, 1);
  EXPECT_FALSE(trainer.end_epoch().stopped);
  (void)scene.step(trainer, 1, 1);
  EXPECT_TRUE(trainer.end_epoch().stopped);
  EXPECT_TRUE(same(scene.start, trainer.learnables())) << "at worst the initial ones";
}

TEST(BlockTrainerTest, NonfiniteStopThrows) {
  recipe::Recipe recipe = four_bits();
  recipe.train.nonfinite = recipe::Nonfinite::kStop;
  Scene scene(recipe);
  BlockTrainer trainer = scene.trainer();
  scene.targets[0][0][0][0] = INFINITY;
  (void)scene.step(trainer, 0, 1);
  EXPECT_THROW((void)trainer.end_epoch(), NumericError);
}

TEST(BlockTrainerTest, LinearScheduleEndsAtRateZero) {
  recipe::Recipe recipe = four_bits();
  recipe.train.lr_schedule = recipe::LrSchedule::kLinear;
  const Scene scene(recipe);
  BlockTrainer trainer = scene.trainer();
  for (int i = 0; i < 8; ++i) (void)scene.step(trainer, 0, 1);
  const NamedTensors at_end = trainer.learnables();
  (void)scene.step(trainer, 0, 1);  // the ninth of eight: factor 1 - 8/8
  EXPECT_TRUE(same(at_end, trainer.learnables()));
}

TEST(BlockTrainerTest, HomologousTermsPullTowardsTheOriginalBlockOnTheSameInput) {
  recipe::Recipe recipe = four_bits();
  recipe.loss.mse_r = 1.0;
  recipe.loss.nlc_r = 1.0;
  const Scene both(recipe);
  const Scene one;
  BlockTrainer trainer_both = both.trainer();
  BlockTrainer trainer_one = one.trainer();
  (void)both.step(trainer_both, 0, 1);
  (void)one.step(trainer_one, 0, 1);
  // Targets are the original block's outputs on the same inputs, so both branches cost the same.
  EXPECT_NEAR(trainer_both.end_epoch().loss, 2.0 * trainer_one.end_epoch().loss, 1e-6);
}

TEST(BlockTrainerTest, TheEndOfEveryEpochIsKeptIfAskedAndRestored) {
  recipe::Recipe recipe = four_bits();
  recipe.train.keep_best = true;
  const Scene scene(recipe);
  BlockTrainer trainer = scene.trainer();
  std::vector<NamedTensors> ends;
  for (int epoch = 0; epoch < 2; ++epoch) {
    (void)scene.step(trainer, 0, 1);
    (void)trainer.end_epoch();
    ends.push_back(trainer.learnables());
  }
  BlockTrainer resumed = scene.trainer();
  resumed.restore(trainer.state());
  const auto kept = resumed.learnables_by_epoch();
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_TRUE(same(kept[0], ends[0]));
  EXPECT_TRUE(same(kept[1], ends[1]));
  EXPECT_FALSE(same(kept[0], kept[1]));
  EXPECT_TRUE(Scene().trainer().learnables_by_epoch().empty());
}

TEST(BlockTrainerTest, ABalancedTrainerGoesOnWithTheSameBitsAfterARestore) {
  recipe::Recipe recipe = four_bits();
  recipe.loss.balance = recipe::Balance::kEma;
  const Scene scene(recipe);
  BlockTrainer unbroken = scene.trainer();
  (void)scene.step(unbroken, 0, 2);
  BlockTrainer resumed = scene.trainer();
  resumed.restore(unbroken.state());
  EXPECT_TRUE(same(unbroken.state(), resumed.state()));
  (void)scene.step(unbroken, 2, 2);
  (void)scene.step(resumed, 2, 2);
  EXPECT_TRUE(same(unbroken.state(), resumed.state()));
  EXPECT_FALSE(at::equal(unbroken.state().at("loss.averages"), at::ones({2}, at::kDouble)));
}

TEST(BlockTrainerTest, OneStepRunsOnTheMetaDevice) {
  const Scene scene;
  NamedTensors weights;
  for (const auto& [name, tensor] : scene.block.weights) weights[name] = tensor.to(at::kMeta);
  BlockTrainer trainer(*scene.block.family, weights, scene.start,
                       {.recipe = scene.recipe, .steps = 1});
  const std::vector<at::Tensor> input = {scene.inputs[0].to(at::kMeta)};
  const std::vector<at::Tensor> target = {scene.targets[0].to(at::kMeta)};
  const auto emitted = trainer.step(input, target, BlockTrainer::Emit::kYes);
  EXPECT_TRUE(emitted[0].is_meta());
  EXPECT_EQ(emitted[0].sizes(), scene.inputs[0].sizes());
}

}  // namespace
}  // namespace lrq::pipeline

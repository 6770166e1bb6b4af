#include "src/eval/adaptation.h"

#include <optional>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/models/learnables.h"
#include "src/models/site_maps.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/block_trainer.h"

namespace lrq::eval {
namespace {

/// Learnables at which the folded block is the original one, up to its quantizers.
models::NamedTensors neutral_learnables(const models::Family& family,
                                        const models::NamedTensors& weights,
                                        const recipe::Recipe& recipe) {
  models::BlockMethod method = pipeline::block_method(recipe);
  method.start = models::ScaleStart::kOnes;  // needs no statistics
  method.shift =
      method.shift == models::ShiftMode::kOff ? models::ShiftMode::kOff : models::ShiftMode::kZero;
  return models::initial_learnables(family, weights, {}, method);
}

/// The start of an adaptation.  A block keeps its changes of basis; codes that were chosen for
/// the calibrated values of the others say nothing about adapted ones.
models::NamedTensors start_of(const models::Family& family, const models::NamedTensors& weights,
                              const recipe::Recipe& adapting,
                              const models::NamedTensors& calibrated) {
  models::NamedTensors start;
  if (adapting.tta.init != recipe::TtaInit::kCalibrated) {
    start = neutral_learnables(family, weights, adapting);
  }
  for (const auto& [name, tensor] : calibrated) {
    if (models::is_map(name) || adapting.tta.init == recipe::TtaInit::kCalibrated) {
      start.emplace(name, tensor);
    }
  }
  for (const models::LinearSpec& linear : family.block().linears) {
    start.erase(models::codes_name(linear.name));
  }
  return start;
}

}  // namespace

recipe::Recipe adaptation_recipe(const recipe::Recipe& recipe) {
  recipe::Recipe adapting = recipe;
  if (!models::learns_anything(pipeline::block_method(recipe))) {
    adapting.smoothing.scale = recipe::Scale::kLearned;
    adapting.smoothing.shift = recipe::Shift::kLearned;
    adapting.smoothing.qk = recipe::Qk::kTied;
    adapting.weights.clip = recipe::ClipKind::kLearned;
  }
  if (!recipe.tta.act_quant) {
    adapting.activations.bits = 16;
    adapting.activations.kv_bits = 16;
  }
  adapting.loss = {};  // MSE + NLC
  auto& train = adapting.train;
  train.epochs = recipe.tta.epochs;
  if (recipe.tta.let_lr > 0.0) train.let_lr = recipe.tta.let_lr;
  train.lwc_lr = recipe.tta.lwc_lr;
  train.batch_size = 1;
  train.lr_schedule = recipe::LrSchedule::kConstant;
  train.keep_best = false;
  return adapting;
}

AdaptedBlock::AdaptedBlock(const pipeline::ModelSource& model, const recipe::Recipe& recipe,
                           const io::BlockStateStore& states, at::ScalarType compute,
                           at::ScalarType store, std::span<const at::Tensor> inputs,
                           std::span<const at::Tensor> targets)
    : family_(model.family()), store_(store) {
  expect(!inputs.empty() && (targets.empty() || targets.size() == inputs.size()),
         "adaptation has samples, and a target for each or none");
  const BlockIndex last{model.blocks() - 1};
  const models::NamedTensors weights = model.block(last);
  const recipe::Recipe adapting = adaptation_recipe(recipe);
  const models::BlockMethod method = pipeline::block_method(adapting);
  const models::NamedTensors start =
      start_of(family_, weights, adapting,
               models::on_device(states.load_block(last).tensors, model.device()));
  std::optional<models::EffectiveBlock> original;
  if (targets.empty()) original = models::plain_block(family_, weights, compute);
  const auto samples = static_cast<std::int64_t>(inputs.size());
  pipeline::BlockTrainer trainer(family_, weights, start,
                                 {.recipe = adapting,
                                  .compute = compute,
                                  .store = store,
                                  .steps = adapting.train.epochs * samples});
  for (int epoch = 0; epoch < adapting.train.epochs; ++epoch) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const at::Tensor target = [&] {
        if (!original) return targets[i];
        const c10::NoGradGuard no_grad;
        return family_.forward(*original, inputs[i], models::plain_sites()).to(store);
      }();
      (void)trainer.step(inputs.subspan(i, 1), std::span(&target, 1),
                         pipeline::BlockTrainer::Emit::kNo);
    }
    losses_.push_back(trainer.end_epoch(last).loss);
  }
  const c10::NoGradGuard no_grad;
  models::NamedTensors learned = trainer.learnables();
  models::truncate_scales(learned, method);
  block_ = models::fold(family_, weights, learned, method, compute);
  sites_ = models::quantizing_sites(family_, method, block_);
}

at::Tensor AdaptedBlock::forward(const at::Tensor& x) const {
  const c10::NoGradGuard no_grad;
  return family_.forward(block_, x, sites_).to(store_).contiguous();
}

}  // namespace lrq::eval

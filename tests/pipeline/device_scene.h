#pragma once

#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/models/site_maps.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/block_trainer.h"
#include "src/quant/loss.h"
#include "src/quant/observer.h"
#include "tests/models/small_block.h"
#include "tests/pipeline/shipped_recipe.h"

namespace lrq::pipeline {

/// What a rank does with one block, phase after phase, on any device.  Everything begins in host
/// memory, as files do.
class BlockOnDevice {
 public:
  using NamedTensors = models::NamedTensors;

  BlockOnDevice(const models::SmallBlock& block, const recipe::Recipe& recipe, at::Device device,
                at::ScalarType compute = at::kFloat)
      : family_(*block.family),
        recipe_(recipe),
        method_(block_method(recipe)),
        device_(device),
        compute_(compute),
        weights_(models::on_device(block.weights, device)) {}

  /// The full-precision chain: statistics and targets.
  void measure(const std::vector<at::Tensor>& samples) {
    const c10::NoGradGuard no_grad;
    const models::EffectiveBlock plain = models::plain_block(family_, weights_, compute_);
    std::map<models::Site, quant::ChannelObserver> observers;
    for (const at::Tensor& sample : samples) {
      inputs.push_back(sample.to(device_));
      targets.push_back(
          family_.forward(plain, inputs.back(), [&](models::Site site, const at::Tensor& x) {
            const at::Tensor rows = x.dim() == 3 ? x : x.flatten(1, 2);
            observers[site].observe(rows);
            return x;
          }));
    }
    for (const auto& [site, observer] : observers) {
      const std::string name(models::site_name(site));
      statistics.emplace(name + ".absmax", observer.absmax());
      statistics.emplace(name + ".shift", observer.shift());
    }
  }

  /// maps: those of the block, from a file.
  [[nodiscard]] NamedTensors start(const NamedTensors& maps) const {
    NamedTensors start = models::initial_learnables(family_, weights_, statistics, method_);
    start.merge(models::on_device(maps, device_));
    return start;
  }

  /// Two steps with micro-batches of two.
  [[nodiscard]] BlockTrainer learn(const NamedTensors& start) {
    BlockTrainer trainer(family_, weights_, start,
                         {.recipe = recipe_, .compute = compute_, .store = at::kFloat, .steps = 2});
    for (std::size_t first : {0U, 2U}) {
      for (at::Tensor& output :
           trainer.step(std::span(inputs).subspan(first, 2), std::span(targets).subspan(first, 2),
                        BlockTrainer::Emit::kYes)) {
        emitted.push_back(output);
      }
    }
    return trainer;
  }

  /// The frozen block's outputs, and how far they are from the targets.
  void freeze(NamedTensors learnables) {
    const c10::NoGradGuard no_grad;
    models::truncate_scales(learnables, method_);
    folded = models::fold(family_, weights_, learnables, method_, compute_);
    const models::SiteFunction sites = models::quantizing_sites(family_, method_, folded);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      outputs.push_back(family_.forward(folded, inputs[i], sites));
      losses.push_back(
          quant::mse_loss(outputs.back(), targets[i],
                          quant::token_weights(targets[i], token_weight_options(recipe_))));
      losses.push_back(quant::nlc_loss(outputs.back(), targets[i], nlc_options(recipe_)));
    }
  }

  /// Every tensor that the phases have made, by name.
  [[nodiscard]] NamedTensors made(const BlockTrainer& trainer) const {
    NamedTensors all = trainer.state();
    const auto add = [&all](const std::string& what, const std::vector<at::Tensor>& tensors) {
      for (std::size_t i = 0; i < tensors.size(); ++i) all[what + std::to_string(i)] = tensors[i];
    };
    add("target", targets);
    add("emitted", emitted);
    add("output", outputs);
    add("loss", losses);
    for (const auto& [name, statistic] : statistics) all[name] = statistic;
    const auto add_if = [&all](const std::string& name, const at::Tensor& tensor) {
      if (tensor.defined()) all[name] = tensor;
    };
    for (const auto& [name, linear] : folded.linears) {
      add_if("folded " + name, linear.weight);
      add_if("folded bias " + name, linear.bias);
    }
    for (const auto& [name, norm] : folded.norms) {
      add_if("folded " + name, norm.weight);
      add_if("folded bias " + name, norm.bias);
    }
    return all;
  }

  NamedTensors statistics;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> targets;
  std::vector<at::Tensor> emitted;
  models::EffectiveBlock folded;
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> losses;

  [[nodiscard]] const NamedTensors& weights() const { return weights_; }
  [[nodiscard]] const models::BlockMethod& method() const { return method_; }

 private:
  const models::Family& family_;
  recipe::Recipe recipe_;
  models::BlockMethod method_;
  at::Device device_;
  at::ScalarType compute_;
  NamedTensors weights_;
};

/// Recipes that between them use everything that learns, with what fits them to the small block.
struct RecipeCase {
  std::string name;
  std::vector<std::string> changes = {};
};
inline std::vector<RecipeCase> device_recipes() {
  return {
      {"lrquant-w4a4"},
      {"lrquant-w4a4", {"train.emit=post", "loss.balance=ema", "loss.mse_r=1", "loss.nlc_r=1"}},
      {"lrquant-w4a4", {"loss.massive_tokens=drop", "loss.mse_scale=token_energy"}},
      {"lrquant-plus-w4a4"},
      {"lrquant-plus-w2a16-g64", {"weights.group_size=8"}},
      {"omniquant-w4a4"},
      {"omniquant-w3a16-g128", {"weights.group_size=8"}},
      {"smoothquant-w8a8"},
      {"rtn", {"weights.bits=4", "activations.bits=8", "activations.clip=0.9", "weights.clip=0.9"}},
      {"duquant-lwc-w4a4", {"rotation.block_size=4", "rotation.steps=2"}},
      {"ruquant-w4a4", {"rotation.block_size=4", "rotation.steps=2"}},
      {"ruquant-lh-w4a4", {"rotation.block_size=4", "rotation.steps=2"}},
      {"lrquant-w4a4",
       {"rotation.kind=hadamard", "rotation.block_size=4", "smoothing.shift=off",
        "rotation.qk=hadamard"}}};
}

}  // namespace lrq::pipeline

#include "src/pipeline/frozen_stage.h"

#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/pipeline/block_method.h"

namespace lrq::pipeline {

LearnablesOf finished_learnables(const io::BlockStateStore& states) {
  return [&states](BlockIndex block, const models::NamedTensors&) {
    return states.load_block(block).tensors;
  };
}

LearnablesOf start_learnables(const models::Family& family, const io::BlockStateStore& states,
                              const recipe::Recipe& recipe) {
  return [&family, &states, method = block_method(recipe)](BlockIndex block,
                                                           const models::NamedTensors& weights) {
    const at::Device device = weights.begin()->second.device();
    models::NamedTensors start = models::initial_learnables(
        family, weights, models::on_device(states.load_statistics(block).tensors, device), method);
    if (!method.map.none()) {
      start.merge(models::on_device(states.load_maps(block).tensors, device));
    }
    return start;
  };
}

FrozenStage::FrozenStage(const ModelSource& model, BlockRange range, const recipe::Recipe* recipe,
                         LearnablesOf learnables_of, at::ScalarType compute, at::ScalarType store,
                         int resident)
    : model_(model),
      range_(range),
      recipe_(recipe),
      learnables_of_(std::move(learnables_of)),
      compute_(compute),
      store_(store),
      resident_(range.size(), resident),
      blocks_(static_cast<std::size_t>(range.size())) {
  for (int i = 0; resident == 0 && i < size(); ++i) enter(i);
}

FrozenStage::Block FrozenStage::make(BlockIndex index) const {
  const c10::NoGradGuard no_grad;
  const models::Family& family = model_.family();
  const models::NamedTensors weights = model_.block(index);
  if (recipe_ == nullptr) {
    return {.effective = models::plain_block(family, weights, compute_),
            .sites = models::plain_sites()};
  }
  const models::BlockMethod method = block_method(*recipe_);
  models::NamedTensors learnables =
      models::on_device(learnables_of_(index, weights), model_.device());
  models::truncate_scales(learnables, method);
  models::EffectiveBlock folded = models::fold(family, weights, learnables, method, compute_);
  models::SiteFunction sites = models::quantizing_sites(family, method, folded);
  return {.effective = std::move(folded), .sites = std::move(sites)};
}

void FrozenStage::enter(int i) {
  resident_.enter(
      i, [this](int gone) { blocks_[static_cast<std::size_t>(gone)].reset(); },
      [this](int next) {
        blocks_[static_cast<std::size_t>(next)] = make(BlockIndex{range_.first + next});
      });
}

at::Tensor FrozenStage::forward(int i, const at::Tensor& x) const {
  return forward(i, x, blocks_.at(static_cast<std::size_t>(i)).value().sites);
}

at::Tensor FrozenStage::forward(int i, const at::Tensor& x,
                                const models::SiteFunction& sites) const {
  const c10::NoGradGuard no_grad;
  const Block& block = blocks_.at(static_cast<std::size_t>(i)).value();  // enter() has made it
  return model_.family().forward(block.effective, x, sites).to(store_).contiguous();
}

}  // namespace lrq::pipeline

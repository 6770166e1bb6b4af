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
                         const LearnablesOf& learnables_of, at::ScalarType compute,
                         at::ScalarType store)
    : family_(model.family()), store_(store) {
  const c10::NoGradGuard no_grad;
  for (int index = range.first; index < range.last; ++index) {
    const BlockIndex block{index};
    const models::NamedTensors weights = model.block(block);
    if (recipe == nullptr) {
      blocks_.push_back({.effective = models::plain_block(family_, weights, compute),
                         .sites = models::plain_sites()});
      continue;
    }
    const models::BlockMethod method = block_method(*recipe);
    models::NamedTensors learnables =
        models::on_device(learnables_of(block, weights), model.device());
    models::truncate_scales(learnables, method);
    models::EffectiveBlock folded = models::fold(family_, weights, learnables, method, compute);
    models::SiteFunction sites = models::quantizing_sites(family_, method, folded);
    blocks_.push_back({.effective = std::move(folded), .sites = std::move(sites)});
  }
}

at::Tensor FrozenStage::forward(int i, const at::Tensor& x) const {
  const c10::NoGradGuard no_grad;
  const Block& block = blocks_.at(static_cast<std::size_t>(i));
  return family_.forward(block.effective, x, block.sites).to(store_).contiguous();
}

}  // namespace lrq::pipeline

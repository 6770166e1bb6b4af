#include "src/pipeline/frozen_stage.h"

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
    return models::initial_learnables(family, weights, states.load_statistics(block).tensors,
                                      method);
  };
}

FrozenStage::FrozenStage(const ModelSource& model, BlockRange range, const recipe::Recipe* recipe,
                         const LearnablesOf& learnables_of, at::ScalarType compute,
                         at::ScalarType store)
    : family_(model.family()), store_(store) {
  const c10::NoGradGuard no_grad;
  sites_ =
      recipe == nullptr ? models::plain_sites() : models::quantizing_sites(block_method(*recipe));
  for (int index = range.first; index < range.last; ++index) {
    const BlockIndex block{index};
    const models::NamedTensors weights = model.block(block);
    if (recipe == nullptr) {
      blocks_.push_back(models::plain_block(family_, weights, compute));
      continue;
    }
    models::NamedTensors learnables = learnables_of(block, weights);
    models::truncate_scales(learnables);
    blocks_.push_back(models::fold(family_, weights, learnables, block_method(*recipe), compute));
  }
}

at::Tensor FrozenStage::forward(int i, const at::Tensor& x) const {
  const c10::NoGradGuard no_grad;
  return family_.forward(blocks_.at(static_cast<std::size_t>(i)), x, sites_)
      .to(store_)
      .contiguous();
}

}  // namespace lrq::pipeline

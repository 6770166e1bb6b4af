#include "src/pipeline/frozen_stage.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/pipeline/block_method.h"

namespace lrq::pipeline {

FrozenStage::FrozenStage(const ModelSource& model, BlockRange range, const recipe::Recipe* recipe,
                         const io::BlockStateStore* states, at::ScalarType compute,
                         at::ScalarType store)
    : family_(model.family()), store_(store) {
  const c10::NoGradGuard no_grad;
  sites_ = recipe == nullptr ? models::plain_sites()
                             : models::quantizing_sites(family_, block_method(*recipe));
  for (int index = range.first; index < range.last; ++index) {
    const BlockIndex block{index};
    const models::NamedTensors weights = model.block(block);
    if (recipe == nullptr) {
      blocks_.push_back(models::plain_block(family_, weights, compute));
      continue;
    }
    models::NamedTensors learnables = states->load_block(block).tensors;
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

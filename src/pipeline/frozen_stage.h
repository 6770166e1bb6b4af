#pragma once

#include <vector>

#include "src/models/quant_block.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Blocks ready to run one after the other on this rank: originals, or folded from their block
/// files.  Used to freeze a wave and to evaluate, so both compute the same bits.
class FrozenStage {
 public:
  /// recipe: null for the original blocks; else states holds every block's file.
  FrozenStage(const ModelSource& model, BlockRange range, const recipe::Recipe* recipe,
              const io::BlockStateStore* states, at::ScalarType compute, at::ScalarType store);

  [[nodiscard]] int size() const { return static_cast<int>(blocks_.size()); }
  /// The `i`-th block's output for x [1, T, C], rounded to the store dtype.
  [[nodiscard]] at::Tensor forward(int i, const at::Tensor& x) const;

 private:
  const models::Family& family_;  // Owns: borrowed from the ModelSource
  std::vector<models::EffectiveBlock> blocks_;
  models::SiteFunction sites_;
  at::ScalarType store_;
};

}  // namespace lrq::pipeline

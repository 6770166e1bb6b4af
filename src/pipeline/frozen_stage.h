#pragma once

#include <functional>
#include <vector>

#include "io/block_state_store.h"
#include "src/models/quant_block.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// The learnables of a block, whose float32 weights are given too; in host memory, or where the
/// weights are.
using LearnablesOf =
    std::function<models::NamedTensors(BlockIndex block, const models::NamedTensors& weights)>;

/// Those of the block files.
[[nodiscard]] LearnablesOf finished_learnables(const io::BlockStateStore& states);
/// Those that a recipe starts from, by the run's statistics and maps.
[[nodiscard]] LearnablesOf start_learnables(const models::Family& family,
                                            const io::BlockStateStore& states,
                                            const recipe::Recipe& recipe);

/// Blocks ready to run one after the other on this rank: originals, or folded from learnables. Used
/// to freeze a wave and to evaluate, so both compute the same bits.
class FrozenStage {
 public:
  /// recipe: null for the original blocks; else learnables_of gives what is folded into each.
  FrozenStage(const ModelSource& model, BlockRange range, const recipe::Recipe* recipe,
              const LearnablesOf& learnables_of, at::ScalarType compute, at::ScalarType store);

  [[nodiscard]] int size() const { return static_cast<int>(blocks_.size()); }
  /// The `i`-th block's output for x [1, T, C], rounded to the store dtype.
  [[nodiscard]] at::Tensor forward(int i, const at::Tensor& x) const;

 private:
  const models::Family& family_;  // Owns: borrowed from the ModelSource
  struct Block {
    models::EffectiveBlock effective;
    models::SiteFunction sites;
  };
  std::vector<Block> blocks_;
  at::ScalarType store_;
};

}  // namespace lrq::pipeline

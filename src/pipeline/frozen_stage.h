#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "io/block_state_store.h"
#include "src/models/quant_block.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/resident_blocks.h"
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
  /// resident: blocks that are in memory at the same time at most; 0: all, from now on.
  FrozenStage(const ModelSource& model, BlockRange range, const recipe::Recipe* recipe,
              LearnablesOf learnables_of, at::ScalarType compute, at::ScalarType store,
              int resident = 0);

  [[nodiscard]] int size() const { return range_.size(); }
  /// Let block `i`'s weights be in memory, at the cost of another's if there are too many.
  void enter(int i);
  /// Its output for x [1, T, C], rounded to the store dtype.
  [[nodiscard]] at::Tensor forward(int i, const at::Tensor& x) const;
  /// The same with other site functions than the block's own.
  [[nodiscard]] at::Tensor forward(int i, const at::Tensor& x,
                                   const models::SiteFunction& sites) const;

 private:
  struct Block {
    models::EffectiveBlock effective;
    models::SiteFunction sites;
  };
  [[nodiscard]] Block make(BlockIndex index) const;

  const ModelSource& model_;  // Owns: borrowed from the run
  BlockRange range_;
  const recipe::Recipe* recipe_;
  LearnablesOf learnables_of_;
  at::ScalarType compute_;
  at::ScalarType store_;
  ResidentBlocks resident_;
  std::vector<std::optional<Block>> blocks_;
};

}  // namespace lrq::pipeline

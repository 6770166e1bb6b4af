#pragma once

#include "io/block_state_store.h"
#include "src/models/family.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// The file of a finished block: its learnables, and the recipe fields that folding needs.
/// Nothing in it depends on time, host, rank or path.
[[nodiscard]] io::TensorFile finished_block(BlockIndex block, const recipe::Recipe& recipe,
                                            const models::NamedTensors& learnables);

/// The file of one that train.keep_best has chosen: `kept` is "start" or "epoch 3".
[[nodiscard]] io::TensorFile kept_block(BlockIndex block, const recipe::Recipe& recipe,
                                        const models::NamedTensors& learnables,
                                        const std::string& kept);
/// What a finished block's file says was kept, or "".
[[nodiscard]] std::string kept_in(const io::TensorFile& block);

/// The file of a block inside a wave: all that its next step reads.
[[nodiscard]] io::TensorFile snapshot_of(BlockIndex block, const io::SnapshotKey& key,
                                         const models::NamedTensors& state);

}  // namespace lrq::pipeline

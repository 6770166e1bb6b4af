#pragma once

#include "io/block_state_store.h"
#include "src/models/family.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// The file of a finished block: its learnables, and the recipe fields that folding needs.
/// Nothing in it depends on time, host, rank or path.
[[nodiscard]] io::TensorFile finished_block(BlockIndex block, const recipe::Recipe& recipe,
                                            const models::NamedTensors& learnables);

/// The file of a block inside a wave: all that its next step reads.
[[nodiscard]] io::TensorFile snapshot_of(BlockIndex block, const io::SnapshotKey& key,
                                         const models::NamedTensors& state);

}  // namespace lrq::pipeline

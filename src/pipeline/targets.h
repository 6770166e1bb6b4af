#pragma once

#include <string_view>

#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// Where the full-precision targets of a wave come from while it learns and is frozen.  Tensors
/// between blocks are rounded to the store dtype where they are made, so this changes no bit.
enum class Targets {
  kDisk,       ///< a boundary's shard behind every block, made once; samples are read step by step
  kMemory,     ///< likewise, but each sample is read once a wave and then kept
  kRecompute,  ///< the original blocks run beside the quantized ones, from the wave's input on
};
[[nodiscard]] std::string_view targets_name(Targets targets);

/// Whether a recipe's targets can come from there: independent blocks read both sides of every
/// block from the disk, so nothing can be made again beside them.
[[nodiscard]] bool takes_targets(const recipe::Recipe& recipe, Targets targets);
/// Throws UsageError if not.
void check_targets(const recipe::Recipe& recipe, Targets targets);

/// Boundaries whose samples lie on the disk at the same time at most.
[[nodiscard]] int boundaries_at_once(const recipe::Recipe::Train& train, Targets targets,
                                     int blocks);

}  // namespace lrq::pipeline

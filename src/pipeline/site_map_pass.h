#pragma once

#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Build the maps of every block from one synthetic sequence, the mean over the samples of the
/// first block's inputs, which goes through the blocks as they start: mapped and fake-quantized,
/// nothing learned (rotation.calib = "mean").  So they are known before any block learns, whatever
/// the wave.  Each block's maps become a file.  Collective. Source: DuQuant, RUQuant;
/// docs/methods.md, "Rotations, permutations, reflections".
void build_maps_from_mean(const RunContext& context);

/// Whether the recipe's maps are built by build_maps_from_mean.
[[nodiscard]] bool maps_from_mean(const recipe::Recipe& recipe);

/// Build the maps of a wave's only block from its own inputs, the quantized chain of the finished
/// blocks before it (rotation.calib = "tokens"), unless a whole file of them is there.  The ranks
/// share the samples; rank 0 writes the file.  Collective.
void build_maps_from_tokens(const RunContext& context, BlockIndex block);

/// Whether the recipe's maps are built by build_maps_from_tokens.
[[nodiscard]] bool maps_from_tokens(const recipe::Recipe& recipe);

}  // namespace lrq::pipeline

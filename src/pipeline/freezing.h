#pragma once

#include <vector>

#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/propagated_loss.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Send all samples through a wave's blocks folded with `learnables_of`, and measure behind each.
/// The blocks are spread over the ranks; where there are more ranks than blocks, the samples too.
/// store_outputs: as inputs of the next wave.  Returns the losses on rank 0, nothing elsewhere.
/// Collective.
enum class StoreOutputs { kYes, kNo };
[[nodiscard]] std::vector<PropagatedLoss> propagate_wave(const RunContext& context,
                                                         BlockRange blocks,
                                                         const LearnablesOf& learnables_of,
                                                         StoreOutputs store_outputs);

/// Freeze a wave whose block files are complete: choose among the candidates of train.keep_best,
/// make the inputs of the next wave, and tell every block's propagated loss beside that of the
/// wave's start (where anything was learned), naming the blocks that are worse than it.
/// Collective; returns when the next wave's inputs are sealed.  next_inputs: false behind the last
/// block, where nothing reads them.
void freeze_wave(const RunContext& context, int wave, BlockRange blocks, bool next_inputs);

}  // namespace lrq::pipeline

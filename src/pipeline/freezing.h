#pragma once

#include "src/pipeline/partition.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Send all samples through the finished blocks of a wave, to make the inputs of the next wave, and
/// measure how far each block's propagated output is from the full-precision chain's.
/// The blocks are spread over the ranks; where there are more ranks than blocks, the samples too.
/// Collective; returns when the next wave's inputs are sealed.  next_inputs: false behind the last
/// block, where nothing reads them.
void freeze_wave(const RunContext& context, int wave, BlockRange blocks, bool next_inputs);

}  // namespace lrq::pipeline

#pragma once

#include <vector>

#include "src/models/family.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Whether a recipe finds something by all samples of a block once its learnables are final:
/// clusters, or other codes for the weights.
[[nodiscard]] bool finishes_by_samples(const recipe::Recipe& recipe);

/// Find that for the blocks of a wave, and write their files.  A block's samples are shared by the
/// ranks (sample_share.h).  A wave has one block, or its blocks are independent of each other.
/// stages: the blocks of each stage, whose first rank has learned them.  learned: of this rank's
/// blocks; empty on rank 0 if the wave was left before its end: then nothing is done.
/// Collective; when rank 0 returns, the files are durable.  Throws DataError if samples are not there.
void finish_by_samples(const RunContext& context, const std::vector<BlockRange>& stages,
                       int replicas, const std::vector<models::NamedTensors>& learned);

}  // namespace lrq::pipeline

#pragma once

#include "src/base/ids.h"
#include "src/models/family.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Add what a recipe finds by all samples of a block once its learnables are final: clusters, and
/// other codes for the weights.  The block is alone in its wave, or independent of the others.
/// Throws DataError if its samples are not there.
void calibrate_by_samples(const RunContext& context, BlockIndex index,
                          models::NamedTensors& learned);

}  // namespace lrq::pipeline

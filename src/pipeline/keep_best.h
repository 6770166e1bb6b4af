#pragma once

#include <vector>

#include "src/pipeline/freezing.h"

namespace lrq::pipeline {

/// Keep of a wave what is best behind its last block: its start or the end of one of its epochs, by
/// the median over the samples of the propagated NLC; of equals the later one.  Rewrites the wave's
/// block files with what is kept and a note of it; a wave whose files have such a note is only
/// completed, so a killed run chooses once.
/// Judged behind the frozen wave, never by the training loss, which ranks candidates wrongly.
/// start: the losses of the wave's start, on rank 0.  Collective.
void keep_best(const RunContext& context, int wave, BlockRange blocks,
               const std::vector<PropagatedLoss>& start);

}  // namespace lrq::pipeline

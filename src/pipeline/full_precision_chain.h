#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "src/pipeline/partition.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Run the original model over all samples once, its blocks spread over all ranks, samples
/// streaming through them: every boundary goes to a sealed shard (the targets of learning; with
/// Targets::kRecompute only what the first block reads), the channel statistics of every block to its file.  Collective: every rank calls it. tokens [N, T]
/// int32: read on rank 0 only.
void run_full_precision_chain(const RunContext& context, const at::Tensor& tokens);

/// True if every statistics file and the boundaries [first, last) of `needed` are there and whole.
/// Rank 0.  alive: called between files, as reading them all may take long.
[[nodiscard]] bool full_precision_chain_complete(const RunContext& context, BlockRange needed,
                                                 const std::function<void()>& alive);

}  // namespace lrq::pipeline

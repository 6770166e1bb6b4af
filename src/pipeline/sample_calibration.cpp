#include "src/pipeline/sample_calibration.h"

#include <string>

#include <ATen/ATen.h>

#include "dist/collectives.h"
#include "src/pipeline/block_state.h"
#include "src/pipeline/cluster_calibration.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/gptq_rounding.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/sample_share.h"
#include "src/pipeline/wave_learning.h"

namespace lrq::pipeline {
namespace {

/// Give every rank what the owner has learned.  Whole numbers (permutations, sizes) never change
/// from the start on, which every rank knows.
models::NamedTensors learned_by(const RunContext& context, BlockIndex index,
                                const models::NamedTensors& weights, Rank owner,
                                const models::NamedTensors& mine) {
  models::NamedTensors learned;
  for (const auto& [name, start] :
       start_learnables(context.model.family(), context.states, context.recipe)(index, weights)) {
    const bool whole = !at::isFloatingType(start.scalar_type());
    at::Tensor value = start;
    if (!whole && context.transport.rank() == owner) value = mine.at(name);
    if (!whole) {
      value = value.to(at::kFloat).contiguous();
      dist::broadcast(context.transport, value, owner, "learned");
    }
    learned.emplace(name, value);
  }
  return learned;
}

void finish(const RunContext& context, BlockIndex index, Rank owner,
            const models::NamedTensors& learned) {
  const recipe::Recipe& recipe = context.recipe;
  const models::NamedTensors weights = context.model.block(index);
  models::NamedTensors state = learned_by(context, index, weights, owner, learned);
  share_samples(context, [&](const SampleShare& share) {
    const bool independent = recipe.train.schedule == recipe::Schedule::kIndependent;
    const SampleReader reader(
        context, independent ? io::Boundary{io::Chain::kFullPrecision, BoundaryIndex{index.value}}
                             : wave_input(index.value));
    const BlockSamples block{.family = context.model.family(),
                             .weights = weights,
                             .recipe = recipe,
                             .samples = context.samples,
                             .read = [&](std::int64_t sample) { return reader.read(sample); },
                             .compute = context.compute,
                             .share = share};
    if (has_clusters(recipe)) {
      state.merge(calibrated_clusters(block, state, {.seed = context.seed, .block = index.value}));
    }
    if (rounds_by_gptq(recipe)) state.merge(gptq_codes(block, state));
    if (context.rank() == 0) {
      context.states.save_block(index, finished_block(index, recipe, state));
    }
  });
  dist::barrier(context.transport, "block file durable");
}

}  // namespace

bool finishes_by_samples(const recipe::Recipe& recipe) {
  return has_clusters(recipe) || rounds_by_gptq(recipe);
}

void finish_by_samples(const RunContext& context, const std::vector<BlockRange>& stages,
                       int replicas, const std::vector<models::NamedTensors>& learned) {
  const std::string left = learned.empty() ? "early" : "";
  if (!dist::broadcast_text(context.transport, left, Rank{0}, "end of a wave").empty()) return;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const Rank owner{static_cast<int>(stage) * replicas};
    const bool mine = context.transport.rank() == owner;
    for (int i = 0; i < stages[stage].size(); ++i) {
      finish(context, BlockIndex{stages[stage].first + i}, owner,
             mine ? learned[static_cast<std::size_t>(i)] : models::NamedTensors());
    }
  }
}

}  // namespace lrq::pipeline

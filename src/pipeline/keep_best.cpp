#include "src/pipeline/keep_best.h"

#include <string>

#include "dist/collectives.h"
#include "src/base/log.h"
#include "src/base/text.h"
#include "src/pipeline/block_state.h"

namespace lrq::pipeline {
namespace {

/// Candidate 0 is the start, e the end of epoch e.
std::string kept_text(int candidate) {
  return candidate == 0 ? std::string("start") : concat("epoch ", candidate);
}

LearnablesOf learnables_of(const RunContext& context, int wave, int candidate) {
  if (candidate == 0) {
    return start_learnables(context.model.family(), context.states, context.recipe);
  }
  return [&context, wave, candidate](BlockIndex block, const models::NamedTensors&) {
    return context.states.load_candidate(wave, candidate, block).tensors;
  };
}

/// What an earlier, interrupted attempt has chosen, or "".
std::string chosen_before(const RunContext& context, BlockRange blocks) {
  for (int block = blocks.first; block < blocks.last; ++block) {
    const std::string kept = kept_in(context.states.load_block(BlockIndex{block}));
    if (!kept.empty()) return kept;
  }
  return {};
}

/// The best candidate, on rank 0; the others take part in the measuring.
std::string choose(const RunContext& context, int wave, BlockRange blocks,
                   const std::vector<PropagatedLoss>& start) {
  const bool first = context.rank() == 0;
  int best = 0;
  double best_loss = first ? start.back().nlc_median : 0.0;
  for (int epoch = 1; epoch <= context.recipe.train.epochs; ++epoch) {
    const auto losses =
        propagate_wave(context, blocks, learnables_of(context, wave, epoch), StoreOutputs::kNo);
    // Written so that a candidate that is not finite never wins.
    if (first && losses.back().nlc_median <= best_loss) {
      best = epoch;
      best_loss = losses.back().nlc_median;
    }
  }
  return kept_text(best);
}

void rewrite(const RunContext& context, int wave, BlockRange blocks, const std::string& kept) {
  int candidate = 0;
  while (kept_text(candidate) != kept) ++candidate;
  const LearnablesOf learnables = learnables_of(context, wave, candidate);
  for (int index = blocks.first + context.rank(); index < blocks.last; index += context.ranks()) {
    const BlockIndex block{index};
    if (!kept_in(context.states.load_block(block)).empty()) continue;
    const models::NamedTensors weights =
        candidate == 0 ? context.model.block(block) : models::NamedTensors();
    context.states.save_block(block,
                              kept_block(block, context.recipe, learnables(block, weights), kept));
  }
}

}  // namespace

void keep_best(const RunContext& context, int wave, BlockRange blocks,
               const std::vector<PropagatedLoss>& start) {
  std::string kept = context.rank() == 0 ? chosen_before(context, blocks) : std::string();
  kept = dist::broadcast_text(context.transport, kept, Rank{0}, "what was kept");
  if (kept.empty()) {
    kept = dist::broadcast_text(context.transport, choose(context, wave, blocks, start), Rank{0},
                                "what to keep");
  }
  rewrite(context, wave, blocks, kept);
  dist::barrier(context.transport, "kept blocks durable");
  if (context.rank() == 0) {
    log_event(LogLevel::kInfo, "keep_best", concat("wave=", wave, " kept=\"", kept, '"'));
  }
}

}  // namespace lrq::pipeline

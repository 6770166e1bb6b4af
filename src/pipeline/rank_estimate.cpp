#include "src/pipeline/rank_estimate.h"

#include <algorithm>
#include <map>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::pipeline {
namespace {

void check(const BlockWork& work, const RunShape& shape) {
  const std::int64_t batch = work.recipe.train.batch_size;
  check_replicas(work.recipe, shape.ranks, shape.replicas);
  check_targets(work.recipe, shape.targets);
  if (shape.slow_rank >= shape.ranks) {
    throw UsageError({.what = concat("there is no rank ", shape.slow_rank, " among ", shape.ranks),
                      .where = "option --slow-rank",
                      .fix = concat("use 0 to ", shape.ranks - 1, ", or more --ranks")});
  }
  if (batch > shape.samples) {
    throw UsageError(
        {.what = concat("a step takes ", batch, " samples and there are ", shape.samples),
         .where = "options --batch-size and --nsamples",
         .fix = "lower --batch-size, or raise --nsamples"});
  }
}

bool needs_less(const RankEstimate& a, const RankEstimate& b) {
  return a.memory.most() < b.memory.most();
}

}  // namespace

std::vector<RankEstimate> estimate_ranks(const BlockWork& work, const ModelFigures& model,
                                         const Machine& machine, const RunShape& shape) {
  check(work, shape);
  const auto chain = split_evenly({0, model.blocks}, std::min(shape.ranks, model.blocks));
  std::map<int, std::vector<BlockRange>> learning;  // by width of a wave
  for (const BlockRange& wave : waves_of(model.blocks, work.recipe.train.wave)) {
    const int width = wave.size();
    learning[width] = split_evenly(
        {0, width}, wave_layout(work.recipe, shape.ranks, width, shape.replicas).stages);
  }
  const bool keeps = shape.targets == Targets::kMemory && !shape.on_device;
  std::vector<RankEstimate> ranks;
  for (int rank = 0; rank < shape.ranks; ++rank) {
    RankShare share{.resident_blocks = shape.resident_blocks,
                    .embeds = rank == 0,
                    .samples = work.recipe.train.batch_size / shape.replicas,
                    .kept_samples = keeps ? shape.samples / shape.replicas : 0,
                    .recomputes = shape.targets == Targets::kRecompute,
                    .on_device = shape.on_device};
    if (rank < std::ssize(chain)) {
      share.chain_blocks = chain[static_cast<std::size_t>(rank)].size();
    }
    const auto stage = static_cast<std::size_t>(rank / shape.replicas);
    for (const auto& [width, ranges] : learning) {
      if (stage < ranges.size()) {
        share.learn_blocks = std::max(share.learn_blocks, ranges[stage].size());
      }
    }
    ranks.push_back(
        {.rank = rank, .share = share, .memory = rank_memory(work, model, share, machine)});
  }
  return ranks;
}

const RankEstimate& heaviest_rank(const std::vector<RankEstimate>& ranks) {
  return *std::max_element(ranks.begin(), ranks.end(), needs_less);
}

const RankEstimate& median_rank(const std::vector<RankEstimate>& ranks) {
  std::vector<const RankEstimate*> order;
  for (const RankEstimate& rank : ranks) order.push_back(&rank);
  std::stable_sort(order.begin(), order.end(),
                   [](const RankEstimate* a, const RankEstimate* b) { return needs_less(*a, *b); });
  return *order[order.size() / 2];
}

}  // namespace lrq::pipeline

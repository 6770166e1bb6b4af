#include "src/pipeline/plan_choice.h"

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/resident_blocks.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::pipeline {
namespace {

constexpr int kMostRanks = 4096;

double needed(const BlockWork& work, const ModelFigures& model, const Machine& machine,
              const RunShape& shape) {
  return heaviest_rank(estimate_ranks(work, model, machine, shape)).memory.most();
}

bool fits(const BlockWork& work, const ModelFigures& model, const Machine& machine,
          const RunShape& shape) {
  return needed(work, model, machine, shape) <= machine.memory_bytes;
}

Schedule schedule_of(BlockWork work, const ModelFigures& model, const Machine& machine,
                     RunShape shape, int wave) {
  work.recipe.train.wave = wave;
  const RunEstimate estimate = estimate_run(work, model, machine, shape);
  const double memory = heaviest_rank(estimate.ranks).memory.most();
  return {.wave = wave,
          .replicas = shape.replicas,
          .targets = shape.targets,
          .steps = estimate.steps,
          .seconds = estimate.seconds(),
          .utilisation = estimate.utilisation(),
          .computing_share = estimate.computing_share(),
          .memory = memory,
          .fits = memory <= machine.memory_bytes};
}

/// The most blocks of a rank that fit at the same time, where not all of them do; 0: not even one.
int resident_to_fit(const BlockWork& work, const ModelFigures& model, const Machine& machine,
                    RunShape shape) {
  int most = 0;
  for (const RankEstimate& rank : estimate_ranks(work, model, machine, shape)) {
    const RankShare& share = rank.share;
    const int blocks = std::max(share.chain_blocks, share.learn_blocks);
    most = std::max(most, blocks_at_once(blocks, share.resident_blocks));
  }
  for (shape.resident_blocks = most - 1; shape.resident_blocks > 0; --shape.resident_blocks) {
    if (fits(work, model, machine, shape)) break;
  }
  return std::max(0, shape.resident_blocks);
}

/// Some recipes take waves of one width only.
bool takes_wave(recipe::Recipe recipe, int wave) {
  recipe.train.wave = wave;
  try {
    recipe::validate(recipe);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

}  // namespace

std::vector<Schedule> compare_schedules(const BlockWork& work, const ModelFigures& model,
                                        const Machine& machine, const RunShape& shape) {
  std::set<int> widths;
  for (const int width : {1, 4, 8, 16, shape.ranks, 2 * shape.ranks, work.recipe.train.wave}) {
    widths.insert(std::clamp(width, 1, model.blocks));
  }
  std::vector<Schedule> schedules;
  for (const int wave : widths) {
    if (!takes_wave(work.recipe, wave)) continue;
    RunShape other = shape;
    other.replicas = wave_layout(work.recipe, shape.ranks, wave, 0).replicas;
    for (const Targets targets : {Targets::kDisk, Targets::kMemory, Targets::kRecompute}) {
      if (!takes_targets(work.recipe, targets)) continue;
      other.targets = targets;
      schedules.push_back(schedule_of(work, model, machine, other, wave));
    }
  }
  return schedules;
}

std::string advice_to_fit(const BlockWork& work, const ModelFigures& model, const Machine& machine,
                          const RunShape& shape) {
  if (fits(work, model, machine, shape)) return {};
  BlockWork changed = work;
  RunShape other = shape;
  if (shape.targets != Targets::kDisk) {
    other.targets = Targets::kDisk;
    if (fits(work, model, machine, other)) return "keep the targets on disk: --targets disk";
    other = shape;
  }
  if (work.compute_bytes == 4) {
    changed.compute_bytes = 2;
    changed.store_bytes = std::min(changed.store_bytes, 2);
    if (fits(changed, model, machine, shape)) return "compute in bfloat16: --dtype bfloat16";
    changed = work;
  }
  for (int wave = work.recipe.train.wave / 2; wave >= 1; wave /= 2) {
    changed.recipe.train.wave = wave;
    if (fits(changed, model, machine, shape)) return concat("use narrower waves: --wave ", wave);
  }
  changed = work;
  std::vector<std::string> ways;
  for (int ranks = shape.ranks + 1; ways.empty() && ranks <= std::min(kMostRanks, model.blocks);
       ++ranks) {
    other.ranks = ranks;
    if (fits(work, model, machine, other)) {
      ways.push_back(concat("use more ranks: --ranks ", ranks));
    }
  }
  other = shape;
  if (const int resident = resident_to_fit(work, model, machine, shape); resident > 0) {
    ways.push_back(concat("hold fewer of a rank's blocks at a time: --resident-blocks ", resident));
  }
  if (!ways.empty()) return join(ways, ", or ");
  for (std::int64_t tokens = work.tokens / 2; tokens >= 256; tokens /= 2) {
    changed.tokens = tokens;
    if (fits(changed, model, machine, shape)) {
      return concat("shorten the samples: --seqlen ", tokens);
    }
  }
  other.ranks = std::max(shape.ranks, model.blocks);
  changed = work;
  changed.recipe.train.wave = 1;
  const double alone = needed(changed, model, machine, other);
  return concat("no single change is enough: one block on each of ", other.ranks,
                " ranks, in waves of 1, still needs ",
                format_bytes(static_cast<std::uint64_t>(alone)), " a rank");
}

}  // namespace lrq::pipeline

#include "src/pipeline/targets.h"

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {

std::string_view targets_name(Targets targets) {
  switch (targets) {
    case Targets::kDisk:
      return "disk";
    case Targets::kMemory:
      return "memory";
    case Targets::kRecompute:
      return "recompute";
  }
  expect(false, "targets come from disk or memory, or are made again");
  return {};
}

bool takes_targets(const recipe::Recipe& recipe, Targets targets) {
  return targets != Targets::kRecompute || recipe.train.schedule == recipe::Schedule::kWaves;
}

void check_targets(const recipe::Recipe& recipe, Targets targets) {
  if (takes_targets(recipe, targets)) return;
  throw UsageError(
      {.what = "independent blocks read both sides of every block from the disk, so nothing can be "
               "made again beside them",
       .where = concat("options --targets ", targets_name(targets),
                       ", --set train.schedule=independent"),
       .fix = "use --targets disk or memory"});
}

int boundaries_at_once(const recipe::Recipe::Train& train, Targets targets, int blocks) {
  const bool one_wave = train.wave >= blocks;
  if (targets == Targets::kRecompute) return one_wave ? 1 : 4;  // a wave's inputs and outputs
  const bool feeds = !one_wave && train.schedule == recipe::Schedule::kWaves;
  return blocks + 1 + (feeds ? 2 : 0);
}

}  // namespace lrq::pipeline

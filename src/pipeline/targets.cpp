#include "src/pipeline/targets.h"

#include "src/base/check.h"

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

int boundaries_at_once(const recipe::Recipe::Train& train, Targets targets, int blocks) {
  const bool one_wave = train.wave >= blocks;
  if (targets == Targets::kRecompute) return one_wave ? 1 : 4;  // a wave's inputs and outputs
  const bool feeds = !one_wave && train.schedule == recipe::Schedule::kWaves;
  return blocks + 1 + (feeds ? 2 : 0);
}

}  // namespace lrq::pipeline

#pragma once

#include <string>
#include <vector>

#include "src/pipeline/run_estimate.h"

namespace lrq::pipeline {

/// One way to run the same calibration, and what it would take.
struct Schedule {
  int wave = 0;
  int replicas = 1;
  Targets targets = Targets::kDisk;
  std::int64_t steps = 0;
  double seconds = 0.0;
  double utilisation = 0.0;
  double computing_share = 0.0;
  double memory = 0.0;  ///< of the heaviest rank
  bool fits = false;
};

/// Waves of several widths on the given ranks, with targets from each place.  In order of width,
/// without those that the recipe does not take; a wave's width changes what is learned.
[[nodiscard]] std::vector<Schedule> compare_schedules(const BlockWork& work,
                                                      const ModelFigures& model,
                                                      const Machine& machine,
                                                      const RunShape& shape);

/// What to change so that every rank fits into machine.memory_bytes: the first of targets on disk,
/// other dtype, narrower waves, more ranks or fewer resident blocks, and shorter samples that does
/// it alone, or a line that says why nothing does.  "" if it fits.
[[nodiscard]] std::string advice_to_fit(const BlockWork& work, const ModelFigures& model,
                                        const Machine& machine, const RunShape& shape);

}  // namespace lrq::pipeline

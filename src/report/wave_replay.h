#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"
#include "src/recipe/recipe.h"
#include "src/report/metrics.h"

namespace lrq::report {

/// What the plan of a wave follows from, beside its record.
struct WaveSetting {
  recipe::Recipe recipe;
  pipeline::BlockRange blocks;
  std::int64_t micro_batches = 1;  ///< M
  int ranks = 1;                   ///< of the newest call; for a wave that has no record
};

/// The learning of one wave, played by the simulator, beside what the run measured.
struct WaveReplay {
  int wave = 0;
  pipeline::BlockRange blocks;
  int ranks = 1;  ///< of the run; those from stages.size() * replicas on have no part in the wave
  int replicas = 1;
  std::int64_t first_step = 0;
  std::int64_t steps = 0;
  std::vector<pipeline::BlockRange> stages;
  pipeline::Simulation played;         ///< with its bars
  std::optional<WaveRecord> measured;  ///< nothing while the wave learns
  /// Part of the time in which a rank has nothing to do; measured only of the first replica of a
  /// stage.
  [[nodiscard]] double simulated_waiting(int rank) const;
  [[nodiscard]] std::optional<double> measured_waiting(int rank) const;
};

/// Make the plan that the executor walked (plan_learning), and play it with the run's own costs: a
/// step takes what each block of the stage took a step in that epoch, and what the stage did
/// besides (messages, log) in equal parts; a cut takes its mean; a message arrives at once.  An
/// epoch that was not measured takes the median step of its block, or of all blocks. Returns
/// nothing where no step was measured, or the record does not fit the run.
[[nodiscard]] std::optional<WaveReplay> replay_wave(const WaveSetting& setting, int wave,
                                                    const Metrics& metrics);

}  // namespace lrq::report

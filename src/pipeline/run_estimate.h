#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/pipeline/rank_estimate.h"

namespace lrq::pipeline {

/// One phase, all its waves together.
struct PhaseEstimate {
  std::string name;        ///< "chain", "learn", "freeze"
  double seconds = 0.0;    ///< until the last rank is done
  double computing = 0.0;  ///< rank-seconds of computing blocks, all ranks together
  double busy = 0.0;       ///< rank-seconds of anything but waiting for another rank, likewise
  double wire_bytes = 0.0;
  double loading_seconds = 0.0;  ///< of `seconds`: reading and folding weights, keeping targets
  double file_seconds = 0.0;     ///< rank-seconds of HDF5 and cuts, all ranks together
};

struct RunEstimate {
  std::vector<PhaseEstimate> phases;
  std::vector<RankEstimate> ranks;  ///< by rank
  std::int64_t steps = 0;           ///< of the waves, one after the other
  int waves = 0;
  int stages = 0;  ///< of the widest wave
  double disk_bytes = 0.0;
  [[nodiscard]] double seconds() const;
  [[nodiscard]] double wire_bytes() const;
  /// Time that ranks do not wait for each other, by (ranks * seconds): Simulation::utilisation,
  /// over all phases, with the reading and folding of weights before them.
  [[nodiscard]] double utilisation() const;
  /// Computing blocks by (ranks * seconds): files, weights and messages count as lost too.
  [[nodiscard]] double computing_share() const;
};

/// Make the plans that the executor of a run makes for each of its phases (plan_forward,
/// plan_learning), play them with the costs of cost_model.h, and add what lies between them:
///   chain    read and convert the weights, then N samples through all blocks, every boundary
///            written to HDF5
///   learn    for each wave: read weights and make the trainers, E * M steps with their targets,
///            messages, tree sums of replicas and a cut an epoch, then a file for each block
///   freeze   for each wave twice (once if nothing learns): read and fold the weights, N samples
///            with their targets; the second time the last rank writes the next wave's inputs
/// With resident blocks, a stage's steps and passes go in turns (TurnCosts), in each of which it
/// reads again what is not there.
/// Not counted: reading the text and drawing windows, and what not_counted() names.
/// Throws as estimate_ranks().
[[nodiscard]] RunEstimate estimate_run(const BlockWork& work, const ModelFigures& model,
                                       const Machine& machine, const RunShape& shape);

}  // namespace lrq::pipeline

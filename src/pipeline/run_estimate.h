#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/pipeline/memory_model.h"
#include "src/pipeline/plan_check.h"

namespace lrq::pipeline {

/// A run to estimate: on how many ranks, in which waves.
struct RunShape {
  int ranks = 1;
  std::int64_t samples = 128;  ///< N
  int replicas = 1;            ///< R: ranks that share a micro-batch; a power of two that divides B
  Targets targets = Targets::kDisk;
  bool on_device = false;  ///< ranks compute on GPUs
  int slow_rank = -1;      ///< one that takes slow_factor times as long to compute
  double slow_factor = 1.0;
  double slow_links = 1.0;  ///< every message takes so many times as long
};

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

/// What one rank holds.
struct RankEstimate {
  int rank = 0;
  RankShare share;
  RankMemory memory;
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

/// What every rank holds, by rank: the part of estimate_run() that plays no plan.  Throws as it
/// does.
[[nodiscard]] std::vector<RankEstimate> estimate_ranks(const BlockWork& work,
                                                       const ModelFigures& model,
                                                       const Machine& machine,
                                                       const RunShape& shape);
/// The rank that needs the most memory (RankMemory::most), and the one in the middle.
[[nodiscard]] const RankEstimate& heaviest_rank(const std::vector<RankEstimate>& ranks);
[[nodiscard]] const RankEstimate& median_rank(const std::vector<RankEstimate>& ranks);

/// Make the plans that the executor of a run makes for each of its phases (plan_forward,
/// plan_learning), play them with the costs of cost_model.h, and add what lies between them:
///   chain    read and convert the weights, then N samples through all blocks, every boundary
///            written to HDF5
///   learn    for each wave: read weights and make the trainers, E * M steps with their targets,
///            messages, tree sums of replicas and a cut an epoch, then a file for each block
///   freeze   for each wave twice (once if nothing learns): read and fold the weights, N samples
///            with their targets; the second time the last rank writes the next wave's inputs
/// Not counted: reading the text and drawing windows, and what not_counted() names.
/// Throws UsageError: replicas that do not divide the micro-batch, are no power of two, or leave no
/// rank for a stage; more samples per step than there are samples.
[[nodiscard]] RunEstimate estimate_run(const BlockWork& work, const ModelFigures& model,
                                       const Machine& machine, const RunShape& shape);

}  // namespace lrq::pipeline

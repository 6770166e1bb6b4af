#pragma once

#include <cstdint>
#include <vector>

#include "src/pipeline/memory_model.h"

namespace lrq::pipeline {

/// A run to estimate: on how many ranks, in which waves.
struct RunShape {
  int ranks = 1;
  std::int64_t samples = 128;  ///< N
  int replicas = 1;            ///< R: ranks that share a micro-batch; a power of two that divides B
  Targets targets = Targets::kDisk;
  int resident_blocks = 0;  ///< of a rank, in memory at the same time; 0: all
  bool on_device = false;   ///< ranks compute on GPUs
  int slow_rank = -1;       ///< one that takes slow_factor times as long to compute
  double slow_factor = 1.0;
  double slow_links = 1.0;  ///< every message takes so many times as long
};

/// What one rank holds.
struct RankEstimate {
  int rank = 0;
  RankShare share;
  RankMemory memory;
};

/// What every rank holds, by rank.
/// Throws UsageError: replicas that do not divide the micro-batch, are no power of two, or leave no
/// rank for a stage; targets that the recipe does not take; a slow rank that is not there; more
/// samples per step than there are samples.
[[nodiscard]] std::vector<RankEstimate> estimate_ranks(const BlockWork& work,
                                                       const ModelFigures& model,
                                                       const Machine& machine,
                                                       const RunShape& shape);
/// The rank that needs the most memory (RankMemory::most), and the one in the middle.
[[nodiscard]] const RankEstimate& heaviest_rank(const std::vector<RankEstimate>& ranks);
[[nodiscard]] const RankEstimate& median_rank(const std::vector<RankEstimate>& ranks);

}  // namespace lrq::pipeline

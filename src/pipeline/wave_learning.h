#pragma once

#include <cstdint>
#include <functional>

#include "io/block_state_store.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// One wave of blocks to learn.
struct WaveTask {
  int wave = 0;
  BlockRange blocks;
  std::int64_t first_step = 0;  ///< 0, or the step count of a snapshot to start from
  std::int64_t steps = 0;       ///< E * M; 0: nothing learns, start values are final
  std::int64_t cut_every = 0;
  int replicas = 0;  ///< ranks of a stage; 0: as many as the ranks and the micro-batch allow
  /// Rank 0: called when every rank has made the cut durable.
  std::function<void(const io::SnapshotKey&)> name_cut;
  /// Rank 0: whether the run is to stop; once true it stays true.
  std::function<bool()> stop_asked;
};

/// Learn all blocks of a wave at the same time, spread over the ranks, and write their block files.
/// Collective; returns when every block file of the wave is durable.  Asked to stop, it returns
/// after a cut instead, two steps on, unless the wave ends before that. Returns the step count
/// reached, on the ranks that own blocks of the wave.
std::int64_t learn_wave(const RunContext& context, const WaveTask& task);

/// The boundary that feeds a wave whose first block is `first`.
[[nodiscard]] io::Boundary wave_input(int first);

}  // namespace lrq::pipeline

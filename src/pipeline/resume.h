#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "io/block_state_store.h"

namespace lrq::pipeline {

/// What is on the disk of an interrupted run; each answer means "there and whole".
struct RunFacts {
  int waves = 0;
  bool finished = false;                          ///< as run.json says
  std::optional<io::SnapshotKey> cut;             ///< as run.json names it
  /// The statistics, and of the full-precision chain what is needed from that wave on, or from the
  /// beginning for maps.
  std::function<bool(int wave, bool maps)> chain_complete;
  std::function<bool()> maps_complete;            ///< every map that is built before the waves
  std::function<bool(int wave)> blocks_complete;  ///< every block file of the wave
  std::function<bool(int wave)> inputs_complete;  ///< the wave's input activations
  std::function<bool(const io::SnapshotKey&)> snapshot_complete;
};

/// What a run still has to do.  Missing or torn files are work to do again, never a wrong result.
struct ResumePoint {
  bool redo_chain = false;
  bool redo_maps = false;
  int freeze_from = 0;  ///< finished waves freeze_from .. learn_wave-1 are only frozen again
  int learn_wave = 0;   ///< the first wave that learns; == waves if none
  std::int64_t first_step = 0;  ///< of learn_wave
  bool nothing_left = false;
  friend bool operator==(const ResumePoint&, const ResumePoint&) = default;
};

/// Decide where to go on.  Pure.
[[nodiscard]] ResumePoint find_resume_point(const RunFacts& facts);

}  // namespace lrq::pipeline

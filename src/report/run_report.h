#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/block_state_store.h"
#include "io/file_system.h"
#include "src/pipeline/partition.h"
#include "src/recipe/recipe.h"
#include "src/report/metrics.h"
#include "src/report/wave_replay.h"

namespace lrq::report {

/// All that the report of a run says, finished or not.
struct RunReport {
  std::string run;  ///< its folder
  std::string model;
  std::string version;
  std::string dtype;
  std::string transport;
  std::string recipe_toml;
  recipe::Recipe recipe;
  int blocks = 0;
  int finished_blocks = 0;
  std::int64_t samples = 0;
  int ranks = 1;  ///< of the newest call
  bool finished = false;
  std::optional<io::SnapshotKey> cut;
  std::vector<pipeline::BlockRange> waves;
  Metrics metrics;
  std::vector<WaveReplay> replays;  ///< of waves of which a step was measured

  /// "finished", or where a resume starts.
  [[nodiscard]] std::string state() const;
  /// "W4 A4, keys and values 8 bits".
  [[nodiscard]] std::string bits() const;
  /// Blocks with steps that were not finite.
  [[nodiscard]] std::vector<int> nonfinite_blocks() const;
};

/// How much of the waves' time one rank worked, over all waves that were replayed.
struct Utilisation {
  double simulated = 0.0;
  /// Over the waves that were measured; nothing for ranks of which that is not told.
  std::optional<double> measured;
};
/// By rank, of the newest number of ranks; a wave of another number of ranks is left out.
[[nodiscard]] std::vector<Utilisation> utilisations(const RunReport& report);

/// Read a run directory; it may be in use.  Throws DataError: no run.json, a torn one, or one that
/// lacks what a run of this program tells.
[[nodiscard]] RunReport load_report(io::FileSystem& files, const std::filesystem::path& run);

}  // namespace lrq::report

#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace lrq::report {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// One epoch of one block.  Losses are means over its steps; one that is not finite is kUnknown.
struct EpochRecord {
  int wave = 0;
  double loss = kUnknown;
  double mse = kUnknown;
  double nlc = kUnknown;
  std::int64_t masked = 0;  ///< steps whose loss was not finite
  bool stopped = false;
  double seconds = kUnknown;  ///< computing on the block
  double tokens_per_second = kUnknown;
  std::int64_t steps = 0;  ///< that took these seconds
};

/// A frozen block: medians over the samples of its propagated losses.
struct FrozenRecord {
  double mse = kUnknown;
  double nlc = kUnknown;
  double nlc_mean = kUnknown;
  double start_mse = kUnknown;  ///< of the wave's start; unknown where nothing was learned
  double start_nlc = kUnknown;
  bool worse = false;  ///< than its start, by NLC
};

/// The learning of a wave, or the newest part of it.
struct WaveRecord {
  int ranks = 1;  ///< of the run
  int replicas = 1;
  std::int64_t first_step = 0;
  std::int64_t steps = 0;  ///< done: first_step .. steps-1
  std::int64_t cut_every = 0;
  std::int64_t turn = 1;
  double seconds = 0.0;        ///< until rank 0 has all reports
  std::vector<double> waited;  ///< seconds without work, by stage
  std::vector<double> cuts;    ///< seconds of making cuts durable, by stage
};

/// One `calibrate` that was not killed.
struct CallRecord {
  int ranks = 1;
  bool stopped = false;
  double seconds = 0.0;
  double learning_seconds = 0.0;          ///< in waves: learning and freezing
  std::vector<double> peak_memory_bytes;  ///< by rank
  std::vector<double> waited_seconds;     ///< by rank
};

/// What metrics.jsonl tells, to `report` and to `status`.  Of what was done more than once, by a
/// resume, the last counts.
struct Metrics {
  std::map<int, std::map<std::int64_t, EpochRecord>> epochs;  ///< by block and epoch
  std::map<int, FrozenRecord> frozen;                         ///< by block
  std::map<int, WaveRecord> waves;                            ///< by wave
  std::vector<CallRecord> calls;
  std::optional<std::pair<int, std::int64_t>> newest_epoch;  ///< block and epoch of the newest line
  std::optional<int> newest_frozen;                          ///< block of the newest line
  int left_out = 0;  ///< lines that are not ours, or were torn by a kill
  /// Blocks whose propagated NLC is above their start's.
  [[nodiscard]] std::vector<int> worse_blocks() const;
};

/// text: of metrics.jsonl; a last line without its line feed is still being written.
/// blocks: of the run; lines of others are left out.
[[nodiscard]] Metrics read_metrics(std::string_view text, int blocks);

}  // namespace lrq::report

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/file_system.h"
#include "src/base/ids.h"
#include "src/base/process.h"
#include "src/pipeline/block_trainer.h"
#include "src/pipeline/propagated_loss.h"
#include "src/pipeline/schedule.h"
#include "src/pipeline/stage_clock.h"

namespace lrq::pipeline {

/// What one block did in one epoch, as rank 0 learns it from a report.
struct BlockEpoch {
  BlockIndex block;
  LossSummary losses;
  double seconds = 0.0;  ///< computing on this block
};

/// What one call of `calibrate` took, from its start to its end; lists have an entry per rank.
struct CallSummary {
  bool stopped = false;  ///< asked to
  double seconds = 0.0;
  double learning_seconds = 0.0;  ///< in waves: learning and freezing
  std::vector<std::uint64_t> peak_memory_bytes;
  std::vector<double> waited_seconds;
};

/// Tell what a run does: lines of metrics.jsonl, one event line on stderr for each, and on a
/// terminal one line that is written over, with the time left over all ranks.  Rank 0 only; silent
/// elsewhere.
class RunLog {
 public:
  enum class Speaker { kYes, kNo };
  RunLog(io::FileSystem& files, const std::filesystem::path& run, Speaker speaker);

  /// total_steps: block steps of the whole run that are still to do.
  void start(std::int64_t total_steps, std::int64_t tokens_per_step);
  void phase(const std::string& name, const std::string& detail);
  /// steps_done: of each block since the last call; fewer than an epoch behind a cut.
  void epoch(int wave, std::int64_t epoch, std::int64_t epochs,
             const std::vector<BlockEpoch>& blocks, std::int64_t steps_done);
  /// start: of the wave's start, or empty where nothing was learned.
  void frozen(int wave, const std::vector<PropagatedLoss>& blocks,
              const std::vector<PropagatedLoss>& start);
  /// The learning of a wave, or of the part of it that was left with a cut: its plan's shape, and
  /// the times of the first replica of every stage; rank 0's end the wave.
  void waited(int wave, const LearnShape& shape, const std::vector<StageTimes>& stages);
  /// A calibration that was not killed.
  void ended(const CallSummary& call);
  void finish();

 private:
  void close_torn_line();
  void write_line(const std::string& json);
  void show_progress(const std::string& text);

  io::FileSystem& files_;  // Owns: borrowed from calibrate()
  std::filesystem::path path_;
  bool speaks_;
  bool terminal_;
  std::int64_t total_steps_ = 0;
  std::int64_t done_steps_ = 0;
  std::int64_t tokens_per_step_ = 0;
  Stopwatch since_start_;
};

}  // namespace lrq::pipeline

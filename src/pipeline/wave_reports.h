#pragma once

#include <deque>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/stage_clock.h"

namespace lrq::pipeline {

/// What the stages of a wave tell rank 0 at the end of an epoch and after a cut.
class WaveReports {
 public:
  /// ranges: the blocks of each stage; its first replica, rank stage * replicas, speaks for it.
  WaveReports(dist::Transport& transport, std::vector<BlockRange> ranges, int replicas);

  /// Of this rank's stage: its blocks, in order, and the times of its list so far.  Kept until
  /// send() or collect() takes it, oldest first.
  void add(const std::vector<BlockEpoch>& blocks, const StageTimes& times);
  /// Send the oldest to rank 0.
  void send();
  /// Wait until everything sent has been taken over.
  void flush();

  struct Collected {
    std::vector<BlockEpoch> blocks;  ///< of the wave, in order
    std::vector<StageTimes> times;   ///< by stage
  };
  /// Rank 0: its own oldest, and the next of every other stage.
  [[nodiscard]] Collected collect();

 private:
  dist::Transport& transport_;  // Owns: borrowed from the run
  std::vector<BlockRange> ranges_;
  int replicas_;
  std::deque<at::Tensor> own_;
  std::vector<std::unique_ptr<dist::Pending>> in_flight_;
};

}  // namespace lrq::pipeline

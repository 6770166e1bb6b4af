#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "dist/transport.h"

namespace lrq::pipeline {

/// Where the first stage of a wave stops.  Rank 0 is asked, and tells the other replicas of its
/// stage (ranks 1 .. replicas - 1) before each step; the stages after learn it beside their
/// messages (activation_link.h).  No stage is ahead of the first one, so none has passed that step.
class StopWord {
 public:
  /// asked: on rank 0, whether the run is to stop; once true it stays true.
  StopWord(dist::Transport& transport, int replicas, std::function<bool()> asked);
  /// The steps that the wave will have in all, seen before step `step` of `steps`: two more than
  /// `step` once a stop is asked, as the message that says so travels beside that of `step`, and
  /// the receive of the next one is posted by then.  On every rank of the first stage, in order;
  /// asked again for the same step it does nothing.
  [[nodiscard]] std::int64_t steps_before(std::int64_t step, std::int64_t steps);
  /// Wait until everything has been taken over.
  void flush();

 private:
  dist::Transport& transport_;  // Owns: borrowed from the run
  int replicas_;
  std::function<bool()> asked_;
  bool stopping_ = false;
  std::int64_t seen_ = -1;  // the last step
  std::vector<std::unique_ptr<dist::Pending>> in_flight_;
};

}  // namespace lrq::pipeline

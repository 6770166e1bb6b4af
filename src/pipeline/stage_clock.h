#pragma once

#include <chrono>

#include "dist/transport.h"
#include "src/base/process.h"

namespace lrq::pipeline {

/// What one rank did with the time since it began its list of actions.
struct StageTimes {
  double seconds = 0.0;  ///< since the first action
  double waited = 0.0;   ///< of them: for other stages; sums of replicas are part of their steps
  double cuts = 0.0;     ///< of them: making cuts durable, and on rank 0 naming them
};

/// Keep the times of one rank while it learns a wave.
class StageClock {
 public:
  explicit StageClock(const dist::Transport& transport)
      : transport_(transport), waited_before_(waited()) {}

  /// Return the seconds that a step took.  What it waited was for replicas of its own stage.
  template <typename Work>
  double step(const Work& work) {
    const double before = waited();
    const Stopwatch watch;
    work();
    in_steps_ += waited() - before;
    return watch.seconds();
  }

  template <typename Work>
  void cut(const Work& work) {
    const Stopwatch watch;
    work();
    cuts_ += watch.seconds();
  }

  [[nodiscard]] StageTimes times() const {
    return {.seconds = watch_.seconds(),
            .waited = waited() - waited_before_ - in_steps_,
            .cuts = cuts_};
  }

 private:
  [[nodiscard]] double waited() const {
    return std::chrono::duration<double>(transport_.waited()).count();
  }

  const dist::Transport& transport_;  // Owns: borrowed from the run
  Stopwatch watch_;
  double waited_before_;
  double in_steps_ = 0.0;
  double cuts_ = 0.0;
};

}  // namespace lrq::pipeline

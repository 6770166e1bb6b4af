#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/pipeline/schedule.h"

namespace lrq::pipeline {

/// Sends that a rank may have under way before it waits for the oldest: double buffering.
inline constexpr int kSendsInFlight = 2;

/// Seconds that actions take, per rank; a list shorter than the ranks repeats its last entry.
struct Costs {
  std::vector<double> train = {1.0};
  std::vector<double> forward = {1.0};
  double transfer = 0.0;               ///< from a send to the moment its message can be taken
  std::vector<double> transfers = {};  ///< likewise, per sending rank; empty: `transfer` for all
  double cut = 0.0;
  std::vector<double> cuts = {};  ///< likewise, per rank; empty: `cut` for all
  /// Of kTrain and kForward, where steps (or samples) differ: instead of `train` and `forward`.
  std::function<double(std::size_t rank, std::int64_t index)> work = {};
};

/// Work of one rank in a simulation: kTrain, kForward, kCut.
struct Bar {
  int rank = 0;
  Action action;
  double begin = 0.0;
  double end = 0.0;
  friend bool operator==(const Bar&, const Bar&) = default;
};
enum class Bars { kNo, kYes };

struct Simulation {
  double seconds = 0.0;                ///< until the last rank is done
  std::vector<double> busy;            ///< per rank: time in kTrain, kForward, kCut
  std::vector<std::int64_t> messages;  ///< per rank: receives
  std::vector<Bar> bars;               ///< with Bars::kYes; of each rank in the order of time
  /// Mean over the ranks that have any action of busy / seconds.
  [[nodiscard]] double utilisation() const;
};

/// Prove a plan before a run, or throw BugError with the first fault: a receive without its send
/// (or the reverse), another order on the two sides, a step that a rank does twice, leaves out or
/// does without its input, an output sent before it is made, a cut of a step that is not done, a
/// report nobody collects, or ranks that wait for each other (each with its next action). Then play
/// it with the costs and say how long it takes.
Simulation simulate(const Plan& plan, const Costs& costs = {}, Bars bars = Bars::kNo);

}  // namespace lrq::pipeline

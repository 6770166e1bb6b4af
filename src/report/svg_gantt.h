#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/pipeline/plan_check.h"

namespace lrq::report {

/// Part of the time of a simulation, in seconds.
struct Window {
  double begin = 0.0;
  double end = 0.0;
  friend bool operator==(const Window&, const Window&) = default;
};

/// The parts of a wave's simulation in which single steps can be told apart: all of it, or, where
/// that has more than 2 * steps, until the first rank has done `steps`, and from the moment when
/// the last rank begins its last `steps`.  bars: of ranks that all train the same steps.
[[nodiscard]] std::vector<Window> readable_windows(const std::vector<pipeline::Bar>& bars,
                                                   double seconds, std::int64_t steps);

/// What to draw of a simulation, a row for each rank.
struct Gantt {
  std::vector<pipeline::Bar> bars;
  int ranks = 1;  ///< also those without a bar
  Window window;
};

/// Draw it as one <svg> element: a bar for each step and cut, cut off at the window's ends; what is
/// left of a row is waiting.  Every bar tells its times when it is pointed at.
[[nodiscard]] std::string svg_of(const Gantt& gantt);

}  // namespace lrq::report

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/pipeline/schedule.h"

namespace lrq::pipeline {

/// Plan the learning of one wave with blocks streamed from stage to stage: the k-th stage takes at
/// step t what the stage before emitted at its own step t.
[[nodiscard]] Plan plan_waves(const LearnShape& shape);

/// Plan the learning of blocks that are all fed from the full-precision chain.  No outputs pass
/// between the stages, only word of the step that is being done: so no rank runs far ahead of the
/// one after it, and all can be told where to stop.
[[nodiscard]] Plan plan_independent(const LearnShape& shape);

/// One order of work: its name in a recipe (train.schedule) and its planner.
struct ScheduleEntry {
  std::string_view name;
  Plan (*plan)(const LearnShape&);
};
[[nodiscard]] const std::vector<ScheduleEntry>& schedules();

/// The plan of the schedule with that name.  Throws UsageError with the names that exist.
[[nodiscard]] Plan plan_learning(std::string_view schedule, const LearnShape& shape);

}  // namespace lrq::pipeline

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/schedules/schedules.h"

namespace lrq::pipeline {

const std::vector<ScheduleEntry>& schedules() {
  static const std::vector<ScheduleEntry> kSchedules = {
      {"waves", plan_waves},
      {"independent", plan_independent},
  };
  return kSchedules;
}

Plan plan_learning(std::string_view schedule, const LearnShape& shape) {
  std::vector<std::string> names;
  for (const ScheduleEntry& entry : schedules()) {
    if (entry.name == schedule) return entry.plan(shape);
    names.emplace_back(entry.name);
  }
  throw UsageError({.what = concat("unknown schedule '", schedule, "'"),
                    .where = "recipe field train.schedule",
                    .fix = concat("use ", join(names, " or "))});
}

}  // namespace lrq::pipeline

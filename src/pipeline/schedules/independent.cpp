#include "src/base/check.h"
#include "src/pipeline/schedules/report_actions.h"
#include "src/pipeline/schedules/schedules.h"

namespace lrq::pipeline {

Plan plan_independent(const LearnShape& shape) {
  expect(shape.stages >= 1 && shape.stages <= shape.ranks, "stages must be 1 .. ranks");
  Plan plan = empty_plan(shape.ranks);
  for (int stage = 0; stage < shape.stages; ++stage) {
    auto& mine = plan.ranks[static_cast<std::size_t>(stage)];
    ReportActions reports(shape, stage);
    for (std::int64_t step = shape.first_step; step < shape.steps; ++step) {
      mine.push_back({Op::kTrain, step});
      reports.after(step, mine);
    }
    reports.finish(mine);
  }
  return plan;
}

}  // namespace lrq::pipeline

#include "src/base/check.h"
#include "src/pipeline/schedules/report_actions.h"
#include "src/pipeline/schedules/schedules.h"

namespace lrq::pipeline {

Plan plan_independent(const LearnShape& shape) {
  expect(shape.stages >= 1 && shape.stages <= shape.ranks, "stages must be 1 .. ranks");
  Plan plan = empty_plan(shape.ranks);
  plan.word_only = true;
  for (int stage = 0; stage < shape.stages; ++stage) {
    const bool first = stage == 0;
    const bool last = stage + 1 == shape.stages;
    auto& mine = plan.ranks[static_cast<std::size_t>(stage)];
    if (!first) plan.previous[static_cast<std::size_t>(stage)] = stage - 1;
    if (!last) plan.next[static_cast<std::size_t>(stage)] = stage + 1;
    ReportActions reports(shape, stage);
    for (std::int64_t step = shape.first_step; step < shape.steps; ++step) {
      if (!first) mine.push_back({Op::kReceive, step});
      if (!last) mine.push_back({Op::kSend, step});
      mine.push_back({Op::kTrain, step});
      reports.after(step, mine);
    }
    reports.finish(mine);
  }
  return plan;
}

}  // namespace lrq::pipeline

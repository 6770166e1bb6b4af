#include "src/pipeline/schedules/report_actions.h"
#include "src/pipeline/schedules/schedules.h"

namespace lrq::pipeline {

Plan plan_independent(const LearnShape& shape) {
  Plan plan = linked_plan(shape);
  plan.word_only = true;
  for (int rank = 0; rank < shape.stages * shape.replicas; ++rank) {
    const bool first = plan.previous[static_cast<std::size_t>(rank)] < 0;
    const bool last = plan.next[static_cast<std::size_t>(rank)] < 0;
    auto& mine = plan.ranks[static_cast<std::size_t>(rank)];
    ReportActions reports(shape, rank);
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

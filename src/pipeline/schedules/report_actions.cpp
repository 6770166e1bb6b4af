#include "src/pipeline/schedules/report_actions.h"

#include "src/base/check.h"

namespace lrq::pipeline {

Plan plan_of_stages(const LearnShape& shape) {
  expect(shape.stages >= 1 && shape.replicas >= 1 && shape.stages * shape.replicas <= shape.ranks,
         "stages and replicas must be 1 .. ranks");
  Plan plan = empty_plan(shape.ranks);
  const int busy = shape.stages * shape.replicas;
  for (int rank = 0; rank < busy; ++rank) {
    if (rank >= shape.replicas)
      plan.previous[static_cast<std::size_t>(rank)] = rank - shape.replicas;
    if (rank + shape.replicas < busy) {
      plan.next[static_cast<std::size_t>(rank)] = rank + shape.replicas;
    }
  }
  return plan;
}

void ReportActions::after(std::int64_t step, std::vector<Action>& actions) {
  if (!leads_) return;
  if (cuts_after(shape_, step)) actions.push_back({Op::kCut, step});
  if (reports_after(shape_, step)) {
    if (rank_ > 0) {
      actions.push_back({Op::kReport, step});
    } else {
      outstanding_.push_back(step);
    }
  }
  while (!outstanding_.empty() && step >= outstanding_.front() + shape_.stages) {
    actions.push_back({Op::kCollect, outstanding_.front()});
    outstanding_.pop_front();
  }
}

void ReportActions::finish(std::vector<Action>& actions) {
  for (const std::int64_t step : outstanding_) actions.push_back({Op::kCollect, step});
  outstanding_.clear();
}

}  // namespace lrq::pipeline

#include "src/pipeline/schedules/report_actions.h"
#include "src/pipeline/schedules/schedules.h"

namespace lrq::pipeline {

Plan plan_waves(const LearnShape& shape) {
  Plan plan = linked_plan(shape);
  for (int rank = 0; rank < shape.stages * shape.replicas; ++rank) {
    const bool first = plan.previous[static_cast<std::size_t>(rank)] < 0;
    const bool last = plan.next[static_cast<std::size_t>(rank)] < 0;
    auto& mine = plan.ranks[static_cast<std::size_t>(rank)];
    ReportActions reports(shape, rank);
    for (std::int64_t begin = shape.first_step; begin < shape.steps;) {
      const std::int64_t end = turn_end(shape, begin);
      for (std::int64_t i = begin; !first && i < end; ++i) mine.push_back({Op::kReceive, i});
      for (std::int64_t i = begin; i < end; ++i) mine.push_back({Op::kTrain, i});
      for (std::int64_t i = begin; !last && i < end; ++i) mine.push_back({Op::kSend, i});
      for (std::int64_t i = begin; i < end; ++i) reports.after(i, mine);
      begin = end;
    }
    reports.finish(mine);
  }
  return plan;
}

}  // namespace lrq::pipeline

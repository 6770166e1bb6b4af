#include "src/pipeline/schedules/report_actions.h"

namespace lrq::pipeline {

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
  while (!outstanding_.empty() && step >= outstanding_.front() + shape_.stages * shape_.turn) {
    actions.push_back({Op::kCollect, outstanding_.front()});
    outstanding_.pop_front();
  }
}

void ReportActions::finish(std::vector<Action>& actions) {
  for (const std::int64_t step : outstanding_) actions.push_back({Op::kCollect, step});
  outstanding_.clear();
}

}  // namespace lrq::pipeline

#pragma once

#include <deque>

#include "src/pipeline/schedule.h"

namespace lrq::pipeline {

/// Append the cut and the report that follow step `step` on one rank, and on rank 0 the collection
/// of reports that the slowest stage has had the time to send: rank 0 is `stages` turns ahead of
/// the last stage, so collecting at once would make it wait.
class ReportActions {
 public:
  ReportActions(const LearnShape& shape, int rank)
      : shape_(shape), rank_(rank), leads_(rank % shape.replicas == 0) {}
  void after(std::int64_t step, std::vector<Action>& actions);
  /// Collect what is still out.
  void finish(std::vector<Action>& actions);

 private:
  LearnShape shape_;
  int rank_;
  bool leads_;  // its stage: the other replicas have the same state, and nothing to say
  std::deque<std::int64_t> outstanding_;
};

}  // namespace lrq::pipeline

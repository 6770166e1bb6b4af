#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "src/pipeline/plan_check.h"

namespace lrq::pipeline {

/// What a rank takes for each step (or sample), and besides in the first and in every later turn.
struct WorkOfRank {
  double each = 0.0;
  double first_turn = 0.0;
  double later_turn = 0.0;
};

/// Costs of a plan with turns (--resident-blocks): a rank does what belongs to the steps or samples
/// of a turn at its last one, as the executor does.
class TurnCosts {
 public:
  explicit TurnCosts(const LearnShape& shape);
  explicit TurnCosts(const ForwardShape& shape);

  /// Costs::work, by rank.  The function may outlive this object.
  [[nodiscard]] std::function<double(std::size_t rank, std::int64_t index)> work(
      std::vector<WorkOfRank> of_rank) const;
  /// Seconds of a rank between its turns, all together (of the rank that has most of them).
  [[nodiscard]] double besides(const WorkOfRank& work) const {
    return turns_ == 0 ? 0.0 : work.first_turn + static_cast<double>(turns_ - 1) * work.later_turn;
  }

 private:
  struct Entry {
    std::int64_t done = 0;  ///< steps of the turn, at its last one; else 0
    bool in_first_turn = false;
  };
  std::int64_t begin_ = 0;      // index of the first entry
  std::vector<Entry> entries_;  // of each step or sample
  std::int64_t turns_ = 0;
};

}  // namespace lrq::pipeline

#include "src/pipeline/turn_costs.h"

#include <algorithm>
#include <utility>

namespace lrq::pipeline {

TurnCosts::TurnCosts(const LearnShape& shape) : begin_(shape.first_step) {
  for (std::int64_t step = shape.first_step; step < shape.steps; ++turns_) {
    const std::int64_t end = turn_end(shape, step);
    entries_.resize(static_cast<std::size_t>(end - begin_));
    entries_.back() = {.done = end - step, .in_first_turn = step == begin_};
    step = end;
  }
}

TurnCosts::TurnCosts(const ForwardShape& shape)
    : entries_(static_cast<std::size_t>(shape.samples)) {
  const auto turn = static_cast<std::size_t>(shape.turn);
  for (int replica = 0; replica < shape.replicas; ++replica) {
    const auto samples = samples_of_replica(shape, replica);
    std::int64_t turns = 0;
    for (std::size_t begin = 0; begin < samples.size(); begin += turn, ++turns) {
      const std::size_t end = std::min(samples.size(), begin + turn);
      entries_[static_cast<std::size_t>(samples[end - 1])] = {
          .done = static_cast<std::int64_t>(end - begin), .in_first_turn = begin == 0};
    }
    turns_ = std::max(turns_, turns);
  }
}

std::function<double(std::size_t, std::int64_t)> TurnCosts::work(
    std::vector<WorkOfRank> of_rank) const {
  return [entries = entries_, begin = begin_, of_rank = std::move(of_rank)](std::size_t rank,
                                                                            std::int64_t index) {
    const Entry& entry = entries[static_cast<std::size_t>(index - begin)];
    if (entry.done == 0) return 0.0;
    const WorkOfRank& work = of_rank[rank];
    return static_cast<double>(entry.done) * work.each +
           (entry.in_first_turn ? work.first_turn : work.later_turn);
  };
}

}  // namespace lrq::pipeline

#include "src/pipeline/schedule.h"

#include <algorithm>
#include <charconv>

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {

Plan empty_plan(int ranks) {
  const auto count = static_cast<std::size_t>(ranks);
  return {.ranks = std::vector<std::vector<Action>>(count),
          .previous = std::vector<int>(count, -1),
          .next = std::vector<int>(count, -1)};
}

std::string to_text(const std::vector<Action>& actions) {
  std::string text;
  for (const Action& action : actions) {
    if (!text.empty()) text += ' ';
    text += static_cast<char>(action.op);
    text += std::to_string(action.index);
  }
  return text;
}

std::vector<Action> parse_actions(std::string_view text) {
  static constexpr std::string_view kOps = "RTFSCPG";
  std::vector<Action> actions;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (word.empty()) continue;
    Action action{static_cast<Op>(word.front()), 0};
    const auto [end, error] =
        std::from_chars(word.data() + 1, word.data() + word.size(), action.index);
    if (kOps.find(word.front()) == std::string_view::npos || error != std::errc{} ||
        end != word.data() + word.size() || action.index < 0) {
      throw UsageError({.what = concat("'", word, "' is not an action"),
                        .where = "plan text",
                        .fix = "an action is one of R T F S C P G and a number, such as R12"});
    }
    actions.push_back(action);
  }
  return actions;
}

bool reports_after(const LearnShape& shape, std::int64_t step) {
  return (shape.report_every > 0 && (step + 1) % shape.report_every == 0) ||
         cuts_after(shape, step);
}

bool cuts_after(const LearnShape& shape, std::int64_t step) {
  // After the last step the block files follow at once, so a cut there would be for nothing, unless
  // the wave is left there.
  if (step + 1 == shape.steps) return shape.cut_at_end;
  return shape.cut_every > 0 && (step + 1) % shape.cut_every == 0;
}

std::int64_t turn_end(const LearnShape& shape, std::int64_t first) {
  std::int64_t end = first + 1;
  while (end < std::min(shape.steps, first + shape.turn) && !reports_after(shape, end - 1)) ++end;
  return end;
}

Plan linked_plan(const LearnShape& shape) {
  expect(shape.stages >= 1 && shape.replicas >= 1 && shape.stages * shape.replicas <= shape.ranks,
         "stages and replicas must be 1 .. ranks");
  Plan plan = empty_plan(shape.ranks);
  plan.turn = shape.turn;
  const int busy = shape.stages * shape.replicas;
  for (int rank = 0; rank < busy; ++rank) {
    if (rank >= shape.replicas) {
      plan.previous[static_cast<std::size_t>(rank)] = rank - shape.replicas;
    }
    if (rank + shape.replicas < busy) {
      plan.next[static_cast<std::size_t>(rank)] = rank + shape.replicas;
    }
  }
  return plan;
}

std::vector<std::int64_t> samples_of_replica(const ForwardShape& shape, int replica) {
  std::vector<std::int64_t> mine;
  const bool shares = shape.batch % shape.replicas == 0;
  const std::int64_t each = shares ? shape.batch / shape.replicas : 1;
  const std::int64_t in_batches = shape.samples / shape.batch * shape.batch;
  for (std::int64_t sample = 0; sample < shape.samples; ++sample) {
    const std::int64_t owner = shares && sample < in_batches
                                   ? sample % shape.batch / each
                                   : sample * shape.replicas / shape.samples;
    if (owner == replica) mine.push_back(sample);
  }
  return mine;
}

Plan plan_forward(const ForwardShape& shape) {
  Plan plan = linked_plan({.ranks = shape.ranks,
                           .stages = shape.stages,
                           .replicas = shape.replicas,
                           .turn = shape.turn});
  for (int rank = 0; rank < shape.stages * shape.replicas; ++rank) {
    const bool first = plan.previous[static_cast<std::size_t>(rank)] < 0;
    const bool last = plan.next[static_cast<std::size_t>(rank)] < 0;
    auto& mine = plan.ranks[static_cast<std::size_t>(rank)];
    const auto samples = samples_of_replica(shape, rank % shape.replicas);
    const auto turn = static_cast<std::size_t>(shape.turn);
    for (std::size_t begin = 0; begin < samples.size(); begin += turn) {
      const std::size_t end = std::min(samples.size(), begin + turn);
      for (std::size_t i = begin; !first && i < end; ++i) {
        mine.push_back({Op::kReceive, samples[i]});
      }
      for (std::size_t i = begin; i < end; ++i) mine.push_back({Op::kForward, samples[i]});
      for (std::size_t i = begin; !last && i < end; ++i) mine.push_back({Op::kSend, samples[i]});
    }
  }
  return plan;
}

}  // namespace lrq::pipeline

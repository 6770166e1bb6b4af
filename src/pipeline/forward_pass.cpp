#include "src/pipeline/forward_pass.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "src/pipeline/idle_ranks.h"

namespace lrq::pipeline {
namespace {

/// The samples that a rank takes through its blocks together, block after block.
struct Turn {
  std::vector<std::int64_t> samples;
  std::deque<std::vector<at::Tensor>> activations;
};

/// alive: called between samples.
void run_turn(const ForwardWork& work, Turn& turn, const std::function<void()>& alive) {
  for (int i = 0; i < work.blocks; ++i) {
    for (std::size_t j = 0; j < turn.samples.size(); ++j) {
      turn.activations[j] = work.block(i, std::move(turn.activations[j]), turn.samples[j]);
      alive();
    }
  }
  turn.samples.clear();
}

}  // namespace

void run_forward(dist::Transport& transport, const Plan& plan, const MessageShape& shape,
                 const ForwardWork& work) {
  const auto rank = static_cast<std::size_t>(transport.rank().value);
  const std::vector<Action>& actions = plan.ranks[rank];
  int busy = 0;  // busy ranks come first in a forward plan
  while (busy < transport.size() && !plan.ranks[static_cast<std::size_t>(busy)].empty()) ++busy;
  if (transport.rank().value >= busy) return wait_as_idle_rank(transport);
  IdleRanks idle(transport, busy);
  std::optional<InboundLink> inbound;
  std::optional<OutboundLink> outbound;
  if (plan.previous[rank] >= 0) {
    const auto messages = std::count_if(actions.begin(), actions.end(), [](const Action& action) {
      return action.op == Op::kReceive;
    });
    inbound.emplace(transport, Rank{plan.previous[rank]}, shape, messages);
  }
  if (plan.next[rank] >= 0) outbound.emplace(transport, Rank{plan.next[rank]}, shape);
  const auto alive = [&] {
    if (rank == 0) idle.beat();
  };
  Turn turn;
  for (std::size_t next = 0; next < actions.size(); ++next) {
    const Action action = actions[next];
    if (action.op == Op::kReceive) turn.activations.push_back(inbound->take());
    if (action.op == Op::kForward) {
      if (!inbound) turn.activations.push_back(work.source(action.index));
      turn.samples.push_back(action.index);
      const bool last = next + 1 == actions.size() || actions[next + 1].op != Op::kForward;
      if (last || std::ssize(turn.samples) == plan.turn) {
        run_turn(work, turn, alive);
        if (!outbound) turn.activations.clear();
      }
    }
    if (action.op == Op::kSend) {
      outbound->give(turn.activations.front());
      turn.activations.pop_front();
    }
    alive();
  }
  if (outbound) outbound->flush();
  if (rank == 0) idle.release();
}

}  // namespace lrq::pipeline

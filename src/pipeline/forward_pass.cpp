#include "src/pipeline/forward_pass.h"

#include <algorithm>
#include <optional>

#include "src/pipeline/idle_ranks.h"

namespace lrq::pipeline {

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
  at::Tensor x;
  for (const Action& action : actions) {
    if (action.op == Op::kReceive) x = inbound->take().front();
    if (action.op == Op::kForward) {
      if (!inbound) x = work.source(action.index);
      x = work.blocks(x, action.index);
    }
    if (action.op == Op::kSend) outbound->give({x});
    if (rank == 0) idle.beat();
  }
  if (outbound) outbound->flush();
  if (rank == 0) idle.release();
}

}  // namespace lrq::pipeline

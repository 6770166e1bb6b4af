#include "src/pipeline/plan_check.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {
namespace {

[[noreturn]] void fault(const std::string& what) {
  throw BugError({.what = concat("a plan that cannot run: ", what),
                  .where = "pipeline schedule",
                  .fix = "this is a bug of lrq-dist: please report it with the command line"});
}

double cost_of(const std::vector<double>& costs, std::size_t rank) {
  return costs.empty() ? 0.0 : costs[std::min(rank, costs.size() - 1)];
}

struct Message {
  std::int64_t index = 0;
  double ready = 0.0;
};

/// What one rank has sent to another, and when each message was taken.
struct Channel {
  std::vector<Message> sent;
  std::vector<double> taken;
};

class Player {
 public:
  Player(const Plan& plan, const Costs& costs, Bars bars)
      : plan_(plan), costs_(costs), bars_(bars) {
    const std::size_t ranks = plan.ranks.size();
    clock_.assign(ranks, 0.0);
    next_action_.assign(ranks, 0);
    last_work_.assign(ranks, -1);
    last_taken_.assign(ranks, -1);
    for (std::size_t rank = 1; rank < ranks; ++rank) {
      for (const Action& action : plan.ranks[rank]) {
        if (action.op == Op::kReport) reporters_[action.index].insert(static_cast<int>(rank));
      }
    }
    result_.busy.assign(ranks, 0.0);
    result_.messages.assign(ranks, 0);
  }

  Simulation play() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t rank = 0; rank < plan_.ranks.size(); ++rank) {
        while (next_action_[rank] < plan_.ranks[rank].size() && advance(rank)) {
          ++next_action_[rank];
          moved = true;
        }
      }
    }
    check_all_done();
    result_.seconds = *std::max_element(clock_.begin(), clock_.end());
    return result_;
  }

 private:
  /// Do the rank's next action if it can be done now; false if it must wait.
  bool advance(std::size_t rank) {
    const Action action = plan_.ranks[rank][next_action_[rank]];
    switch (action.op) {
      case Op::kReceive:
        if (!take(channel(plan_.previous[rank], rank, action), rank, action)) return false;
        last_taken_[rank] = action.index;
        return true;
      case Op::kSend:
        return send(channel(static_cast<int>(rank), plan_.next[rank], action), rank, action);
      case Op::kReport:
        reports_[{static_cast<int>(rank), 0}].sent.push_back({action.index, clock_[rank]});
        return true;
      case Op::kCollect:
        return collect(rank, action);
      case Op::kTrain:
      case Op::kForward:
        work(rank, action, cost_of_work(rank, action));
        return true;
      case Op::kCut:
        if (last_work_[rank] != action.index) {
          fault(concat("rank ", rank, " cuts after ", action.index, " and is not there"));
        }
        spend(rank, action, costs_.cuts.empty() ? costs_.cut : cost_of(costs_.cuts, rank));
        return true;
    }
    fault("an unknown action");
  }

  [[nodiscard]] double cost_of_work(std::size_t rank, const Action& action) const {
    if (costs_.work) return costs_.work(rank, action.index);
    return cost_of(action.op == Op::kTrain ? costs_.train : costs_.forward, rank);
  }

  Channel& channel(int from, std::size_t to, const Action& action) {
    return channel(from, static_cast<int>(to), action);
  }
  Channel& channel(int from, int to, const Action& action) {
    if (from < 0 || to < 0) fault(concat(to_text({action}), " on a rank without that neighbour"));
    return channels_[{from, to}];
  }

  void work(std::size_t rank, const Action& action, double seconds) {
    // Of a pass, a replica has only some of the samples.
    const bool follows = action.op == Op::kForward ? action.index > last_work_[rank]
                                                   : action.index == last_work_[rank] + 1;
    if (last_work_[rank] >= 0 && !follows) {
      fault(concat("rank ", rank, " does ", to_text({action}), " after ", last_work_[rank]));
    }
    if (plan_.previous[rank] >= 0 && last_taken_[rank] < action.index) {
      fault(concat("rank ", rank, " does ", to_text({action}), " without its input"));
    }
    last_work_[rank] = action.index;
    spend(rank, action, seconds);
  }

  void spend(std::size_t rank, const Action& action, double seconds) {
    const double begin = clock_[rank];
    clock_[rank] += seconds;
    result_.busy[rank] += seconds;
    if (bars_ == Bars::kNo) return;
    result_.bars.push_back({static_cast<int>(rank), action, begin, clock_[rank]});
  }

  bool send(Channel& channel, std::size_t rank, const Action& action) {
    if (plan_.word_only) {
      if (plan_.previous[rank] >= 0 && last_taken_[rank] < action.index) {
        fault(concat("rank ", rank, " passes on ", action.index, " before it has come"));
      }
    } else if (last_work_[rank] < action.index) {
      fault(concat("rank ", rank, " sends ", action.index, " before it is made"));
    }
    const std::size_t out = channel.sent.size();
    if (out >= kSendsInFlight) {
      if (channel.taken.size() + kSendsInFlight <= out) return false;
      clock_[rank] = std::max(clock_[rank], channel.taken[out - kSendsInFlight]);
    }
    const double transfer =
        costs_.transfers.empty() ? costs_.transfer : cost_of(costs_.transfers, rank);
    channel.sent.push_back({action.index, clock_[rank] + transfer});
    return true;
  }

  bool take(Channel& channel, std::size_t rank, const Action& action) {
    const std::size_t number = channel.taken.size();
    if (number >= channel.sent.size()) return false;
    const Message& message = channel.sent[number];
    if (message.index != action.index) {
      fault(concat("rank ", rank, " expects ", action.index, " and is sent ", message.index));
    }
    clock_[rank] = std::max(clock_[rank], message.ready);
    channel.taken.push_back(clock_[rank]);
    ++result_.messages[rank];
    return true;
  }

  bool collect(std::size_t rank, const Action& action) {
    if (rank != 0) fault(concat("rank ", rank, " collects reports; only rank 0 may"));
    std::vector<Channel*> sources;
    for (const int other : reporters_[action.index]) {
      Channel& channel = reports_[{other, 0}];
      if (channel.taken.size() >= channel.sent.size()) return false;
      sources.push_back(&channel);
    }
    for (Channel* channel : sources) take(*channel, rank, action);
    return true;
  }

  void check_all_done() const {
    std::string stuck;
    for (std::size_t rank = 0; rank < plan_.ranks.size(); ++rank) {
      if (next_action_[rank] == plan_.ranks[rank].size()) continue;
      stuck += concat(stuck.empty() ? "" : ", ", "rank ", rank, " at ",
                      to_text({plan_.ranks[rank][next_action_[rank]]}));
    }
    if (!stuck.empty()) fault(concat("ranks wait for each other: ", stuck));
    for (const auto* kind : {&channels_, &reports_}) {
      for (const auto& [ranks, channel] : *kind) {
        if (channel.taken.size() == channel.sent.size()) continue;
        fault(concat("rank ", ranks.first, " sends ", channel.sent[channel.taken.size()].index,
                     " to rank ", ranks.second, ", which never takes it"));
      }
    }
  }

  const Plan& plan_;
  const Costs& costs_;
  Bars bars_;
  std::vector<double> clock_;
  std::vector<std::size_t> next_action_;
  std::vector<std::int64_t> last_work_;
  std::vector<std::int64_t> last_taken_;
  std::map<std::pair<int, int>, Channel> channels_;
  std::map<std::pair<int, int>, Channel> reports_;
  std::map<std::int64_t, std::set<int>> reporters_;  // of each index that somebody reports
  Simulation result_;
};

}  // namespace

double Simulation::utilisation() const {
  double sum = 0.0;
  int active = 0;
  for (const double time : busy) {
    if (time <= 0.0) continue;
    sum += time;
    ++active;
  }
  return active == 0 || seconds <= 0.0 ? 0.0 : sum / (seconds * active);
}

Simulation simulate(const Plan& plan, const Costs& costs, Bars bars) {
  return Player(plan, costs, bars).play();
}

}  // namespace lrq::pipeline

#include "tests/dist/stand_in_threads.h"

#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "dist/host_link.h"
#include "dist/nccl_transport.h"
#include "dist/thread_transport.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/dist/threads.h"
#include "tests/dist/transport_contract.h"

namespace lrq::dist {
namespace {

/// The notices of all ranks, and whether one of them has ended the job.
class Notices {
 public:
  void post(Rank from, Rank to, const Notice& notice) {
    const std::lock_guard lock(mutex_);
    boxes_[to].push_back({.from = from, .notice = notice});
  }
  std::optional<HostLink::Arrival> poll(Rank to) {
    const std::lock_guard lock(mutex_);
    if (ended_) {
      throw TransportError({.what = concat("rank ", ended_->first, " ended the job with exit code ",
                                           ended_->second)});
    }
    auto& box = boxes_[to];
    if (box.empty()) return std::nullopt;
    const HostLink::Arrival arrival = box.front();
    box.pop_front();
    return arrival;
  }
  void end(Rank by, int exit_code) {
    const std::lock_guard lock(mutex_);
    if (!ended_) ended_ = {by, exit_code};
  }

 private:
  std::mutex mutex_;
  std::map<Rank, std::deque<HostLink::Arrival>> boxes_;
  std::optional<std::pair<Rank, int>> ended_;
};

class ThreadHostLink final : public HostLink {
 public:
  ThreadHostLink(ThreadWorld& world, Notices& notices, Rank self)
      : notices_(notices), self_(self), tensors_(world.rank(self, [this] {
          if (work_) work_();
        })) {}
  [[nodiscard]] Transport& tensors() override { return *tensors_; }
  void post(Rank to, const Notice& notice) override { notices_.post(self_, to, notice); }
  [[nodiscard]] std::optional<Arrival> poll() override { return notices_.poll(self_); }
  void while_waiting(std::function<void()> work) override { work_ = std::move(work); }
  void abort(int exit_code) noexcept override {
    notices_.end(self_, exit_code);
    tensors_->abort(exit_code);
  }

 private:
  Notices& notices_;
  Rank self_;
  std::function<void()> work_;
  std::unique_ptr<Transport> tensors_;
};

}  // namespace

void run_on_stand_in(const StandInWorld& world,
                     const std::function<void(Transport&, NcclStandIn&)>& body) {
  NcclStandIn stand_in(world.seed);
  ThreadWorld threads_of_host(world.ranks, world.timeout);
  Notices notices;
  FirstFailure failure;
  const auto run_rank = [&](Rank rank) {
    const NcclStandIn::AsRank me(stand_in, rank);
    std::unique_ptr<Transport> transport;
    try {
      transport = make_nccl_transport(
          world.api, std::make_unique<ThreadHostLink>(threads_of_host, notices, rank),
          {.timeout = world.timeout, .device = rank.value, .on_device = world.on_device});
      body(*transport, stand_in);
    } catch (...) {
      failure.keep_current();
      if (transport) transport->abort(1);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < world.ranks; ++rank) threads.emplace_back(run_rank, Rank{rank});
  }
  failure.rethrow();
  const auto faults = stand_in.faults();
  if (!faults.empty()) throw contract::Broken(join(faults, "; "));
}

}  // namespace lrq::dist

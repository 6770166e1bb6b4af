#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "src/base/error.h"

namespace lrq::dist {

/// What every transport shares: how one send or receive is named in messages, its checks, and the
/// clock of its wait.

enum class Direction { kSend, kReceive };

/// One send or receive of rank `self`.
struct Exchange {
  Direction direction = Direction::kSend;
  Rank self = {};
  Rank peer = {};
  std::string label = {};
  std::int64_t bytes = 0;
  at::ScalarType dtype = at::kByte;
};

/// Describe the exchange of tensor t between transport's rank and peer.
/// Throws BugError if t is undefined or not contiguous, or if peer is not another rank of the run.
[[nodiscard]] Exchange make_exchange(Direction direction, const Transport& transport,
                                     const at::Tensor& t, Rank peer, std::string_view label);

/// "rank 1 receives 'wave 2 batch 7' (4096 bytes) from rank 0".
[[nodiscard]] std::string describe(const Exchange& exchange);

/// Both ranks, the label and the milliseconds waited.
[[nodiscard]] TransportError timeout_error(const Exchange& exchange,
                                           std::chrono::nanoseconds waited);

/// found: "8 bytes of float" or "more than that".
[[nodiscard]] TransportError mismatch_error(const Exchange& exchange, std::string_view found);

/// Wait a little between two polls: at first not at all, then for others on this core, then asleep.
void back_off(std::chrono::nanoseconds waited);

/// Add the time between construction and destruction to a total.
/// Owns: nothing; total must outlive the timer.
class WaitTimer {
 public:
  explicit WaitTimer(std::chrono::nanoseconds& total) : total_(total) {}
  ~WaitTimer() { total_ += elapsed(); }
  WaitTimer(const WaitTimer&) = delete;
  WaitTimer& operator=(const WaitTimer&) = delete;
  [[nodiscard]] std::chrono::nanoseconds elapsed() const { return Clock::now() - start_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::chrono::nanoseconds& total_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace lrq::dist

#pragma once

#include <chrono>
#include <memory>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "src/base/ids.h"

namespace lrq::dist {

/// A send or a receive under way.  One that is dropped without wait() is still carried out, but
/// its failure may go unseen.  Must not outlive its transport.
class Pending {
 public:
  virtual ~Pending() = default;
  /// Block until it is complete.  Throws TransportError (ranks, label, milliseconds waited) on a
  /// lost peer, a size that does not match, or when the transport's timeout has passed.  A send may
  /// take until the peer has posted its receive; receives may be waited for in any order.
  virtual void wait() = 0;
};

/// Carry tensors between the ranks of one run.  The k-th send from a to b meets the k-th receive
/// on b from a: NCCL has no tags, so there are none; plan_check proves the order before a run.
/// Both sides name the same number of bytes; a receive that meets a message of another size throws.
/// Throws TransportError (ranks, label, milliseconds waited); after one, only abort() is allowed.
/// A precondition that the caller broke (peer, contiguity) is a BugError.
/// Threads: the one compute thread of the rank.
class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual Rank rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;  ///< "mpi", "nccl", "threads", "self"
  /// t: contiguous, on this rank's device, unchanged until wait() of the result has returned
  /// (the Pending keeps it alive).  An empty tensor is a message too.
  [[nodiscard]] virtual std::unique_ptr<Pending> send(const at::Tensor& t, Rank to,
                                                      std::string_view label) = 0;
  /// into: contiguous, filled when wait() has returned.
  [[nodiscard]] virtual std::unique_ptr<Pending> recv(const at::Tensor& into, Rank from,
                                                      std::string_view label) = 0;
  /// End the job on every rank: the peers' waits throw, or their processes are ended with
  /// exit_code.  The first call counts.
  virtual void abort(int exit_code) noexcept = 0;
  /// Time that this rank has spent inside Pending::wait(), for the metrics.
  [[nodiscard]] virtual std::chrono::nanoseconds waited() const = 0;
};

}  // namespace lrq::dist

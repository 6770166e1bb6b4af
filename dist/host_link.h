#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "dist/mpi_transport.h"
#include "dist/nccl_api.h"
#include "dist/transport.h"

namespace lrq::dist {

/// What the two ends of a channel between GPUs tell each other through host memory.
struct Notice {
  enum class Kind : std::int32_t {
    kOpen,     ///< from the sender: the id of the channel's communicator
    kOffer,    ///< from the sender: bytes and dtype of its next message, which it has begun to send
    kRefusal,  ///< from the receiver: it expects other bytes or another dtype
  };
  Kind kind = Kind::kOffer;
  std::int32_t dtype = 0;  ///< at::ScalarType
  std::int64_t bytes = 0;
  NcclId id = {};
};

/// The host side of a transport between GPUs: notices that never block, and CPU tensors.
/// Throws TransportError.  Threads: the one compute thread of the rank.
class HostLink {
 public:
  struct Arrival {
    Rank from;
    Notice notice;
  };
  virtual ~HostLink() = default;
  /// Carries CPU tensors, and knows the rank.  Lives as long as the link.
  [[nodiscard]] virtual Transport& tensors() = 0;
  /// Notices from one rank to another arrive in order.  Returns at once.
  virtual void post(Rank to, const Notice& notice) = 0;
  /// The next notice from any rank; empty if there is none yet.
  [[nodiscard]] virtual std::optional<Arrival> poll() = 0;
  /// Call `work` again and again while a wait of tensors() blocks, as the GPU's messages must go
  /// on meanwhile: the peer may wait for one of them first.  What work throws leaves the wait.
  virtual void while_waiting(std::function<void()> work) = 0;
  /// End the job on every rank, as Transport::abort does.
  virtual void abort(int exit_code) noexcept = 0;
};

/// Make the link over MPI.  Every rank calls it at the same point (it duplicates MPI_COMM_WORLD).
/// Owns: nothing of session, which must be active and outlive the link.
[[nodiscard]] std::unique_ptr<HostLink> make_mpi_host_link(MpiSession& session,
                                                           const MpiTransportOptions& options);

}  // namespace lrq::dist

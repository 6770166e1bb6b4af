#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "dist/mpi_session.h"
#include "dist/transport.h"

namespace lrq::dist {

struct MpiTransportOptions {
  std::chrono::milliseconds timeout{60'000};
  /// A message of this size or more travels in pieces; MPI counts bytes in an int.
  std::int64_t piece_bytes = std::int64_t{1} << 30;
  /// Called again and again while a wait blocks, if set; what it throws leaves the wait.
  std::function<void()> while_waiting = {};
};

/// Make the transport between host memories ("mpi").  Every rank calls it at the same point: it
/// duplicates MPI_COMM_WORLD, so that no other use of MPI meets its messages.
///
/// A message of n bytes is n / piece_bytes whole pieces and one shorter, perhaps empty, piece.  The
/// short piece marks the end, hence a receive of any other size throws and never takes a piece of
/// the next message.  A tensor on a GPU goes through a copy in host memory.
///
/// Messages progress inside send(), recv() and wait() alone, on the thread that made the session.
/// An operation whose Pending was dropped is kept until it is done, and waited for at the end.
/// Owns: nothing of session, which must be active and outlive the transport.
/// Throws TransportError if MPI does.
[[nodiscard]] std::unique_ptr<Transport> make_mpi_transport(MpiSession& session,
                                                            const MpiTransportOptions& options);

}  // namespace lrq::dist

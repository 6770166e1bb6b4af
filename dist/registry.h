#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "dist/mpi_session.h"
#include "dist/transport.h"

namespace lrq::dist {

struct TransportOptions {
  std::string name = "auto";  ///< "auto" or one of transport_names()
  std::chrono::milliseconds timeout{600'000};
  MpiSession* session = nullptr;  ///< borrowed; must outlive the transport
};

/// What --transport takes beside "auto": "mpi", "nccl".
[[nodiscard]] std::vector<std::string> transport_names();

/// Make the transport of this run.  "auto": MPI where a launcher started the process, else the
/// transport of a run of one rank.  To add one: dist/<name>_transport.cpp and a line in the table.
/// Throws UsageError for an unknown name, for one that does not exist yet ("nccl") and for "mpi"
/// without a launcher; TransportError if the transport does not start.
[[nodiscard]] std::unique_ptr<Transport> make_transport(const TransportOptions& options);

}  // namespace lrq::dist

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dist/mpi_session.h"
#include "dist/nccl_api.h"
#include "dist/transport.h"

namespace lrq::dist {

struct TransportOptions {
  std::string name = "auto";  ///< "auto" or one of transport_names()
  std::chrono::milliseconds timeout{600'000};
  MpiSession* session = nullptr;  ///< borrowed; must outlive the transport
  /// The GPU that this rank computes on (dist/gpu.h); empty: its tensors are in host memory.
  std::optional<int> gpu = {};
};

/// What --transport takes beside "auto": "mpi", "nccl".
[[nodiscard]] std::vector<std::string> transport_names();

/// Make the transport of this run.  "auto": where a launcher started the process, NCCL between GPUs
/// and MPI between host memories, else the transport of a run of one rank.  "mpi" also carries
/// tensors of GPUs, through copies in host memory.  To add one: dist/<name>_transport.cpp and a
/// line in the table. Throws UsageError for an unknown name, for "mpi" without a launcher and for
/// "nccl" where choose_nccl_gpu does; TransportError if the transport does not start.
[[nodiscard]] std::unique_ptr<Transport> make_transport(const TransportOptions& options);

/// What transport nccl needs beside the ranks.
struct NcclSurroundings {
  std::optional<NcclApi> api = {};        ///< the linked libraries
  std::optional<Launcher> launcher = {};  ///< empty if MPI is not up
  std::optional<int> gpu = {};            ///< that this rank computes on
};

/// The GPU of this rank for transport nccl.  Throws UsageError, in this order, if the build has no
/// NCCL, no launcher started the process, or the tensors are in host memory.
[[nodiscard]] int choose_nccl_gpu(const NcclSurroundings& surroundings);

}  // namespace lrq::dist

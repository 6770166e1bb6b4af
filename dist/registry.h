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

/// Where the tensors are that the ranks send each other.
enum class TensorsOn { kHost, kGpu };

struct TransportOptions {
  std::string name = "auto";  ///< "auto" or one of transport_names()
  std::chrono::milliseconds timeout{600'000};
  MpiSession* session = nullptr;  ///< borrowed; must outlive the transport
  TensorsOn tensors = TensorsOn::kHost;
  std::optional<std::size_t> gpu_memory_bytes = {};  ///< "nccl": what LibTorch may take of the GPU
};

/// What --transport takes beside "auto": "mpi", "nccl".
[[nodiscard]] std::vector<std::string> transport_names();

/// Make the transport of this run.  "auto": MPI where a launcher started the process, else the
/// transport of a run of one rank.  To add one: dist/<name>_transport.cpp and a line in the table.
/// Throws UsageError for an unknown name, for "mpi" without a launcher and for "nccl" where
/// choose_nccl_gpu does; TransportError if the transport does not start.
[[nodiscard]] std::unique_ptr<Transport> make_transport(const TransportOptions& options);

/// What transport nccl needs beside the ranks.
struct NcclSurroundings {
  std::optional<NcclApi> api = {};        ///< the linked libraries
  std::optional<Launcher> launcher = {};  ///< empty if MPI is not up
  TensorsOn tensors = TensorsOn::kHost;
  Environment environment;
};

/// The GPU of this rank for transport nccl.  Throws UsageError, in this order, if the build has no
/// NCCL, no launcher started the process, the tensors are in host memory, or choose_gpu refuses.
[[nodiscard]] int choose_nccl_gpu(const NcclSurroundings& surroundings);

}  // namespace lrq::dist

#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>

#include "dist/host_link.h"
#include "dist/nccl_api.h"
#include "dist/transport.h"

namespace lrq::dist {

struct NcclTransportOptions {
  std::chrono::milliseconds timeout{600'000};
  int device = 0;  ///< as CUDA counts the visible ones (dist/local_rank.h)
  /// Whether a tensor's memory is the GPU's; tests, whose GPU is host memory, set another.
  bool (*on_device)(const at::Tensor& t) = [](const at::Tensor& t) { return t.is_cuda(); };
};

/// Make the transport between GPUs ("nccl").  CUDA tensors go through NCCL, CPU tensors (barriers,
/// texts) through the link's own transport; both sides of a message agree on which.
/// It is compiled and linked against NCCL and CUDA and tested on a stand-in on host memory that
/// delays, reorders and fails; it has run on no GPU.
///
/// Streams: a message runs on its channel's stream, behind an event of LibTorch's current stream at
/// the call, so send() and recv() return at once and overlap with compute that is queued later.
/// wait() returns once the host has seen the message's own event complete, so compute that is
/// queued after it needs no event.
/// Memory: an operation holds its tensor until then, so the caching allocator cannot hand it out
/// early; the tensor is also recorded on the channel's stream (record_stream), for a transport that
/// is given up with messages still on the GPU.
/// Failure: the first one (an asynchronous error of NCCL, a timeout, another size) aborts every
/// communicator, which ends their kernels, and each wait throws it.  After a timeout a peer need
/// not be told: its own wait, or the job's abort, names this rank.
/// Progress: GPU messages go on in send(), recv() and every wait, of CPU tensors too; a receive of
/// a CPU tensor that was posted goes on only in waits of CPU tensors.  So nobody may wait for a GPU
/// message that its peer sends only after a CPU tensor that this rank has yet to wait for.
///
/// Owns: link.  api is copied.
/// Throws TransportError if CUDA refuses the device.
[[nodiscard]] std::unique_ptr<Transport> make_nccl_transport(const NcclApi& api,
                                                             std::unique_ptr<HostLink> link,
                                                             const NcclTransportOptions& options);

}  // namespace lrq::dist

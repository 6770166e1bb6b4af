#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>

#include "dist/nccl_api.h"
#include "dist/transport.h"
#include "tests/dist/nccl_stand_in.h"

namespace lrq::dist {

/// A world of NCCL transports whose ranks are threads and whose GPUs are the stand-in.
struct StandInWorld {
  int ranks = 2;
  std::chrono::milliseconds timeout{20'000};
  unsigned seed = 1;
  NcclApi api = NcclStandIn::api();
  /// Which tensors go through NCCL; the others go through ranks as threads.
  bool (*on_device)(const at::Tensor& t) = [](const at::Tensor& /*t*/) { return true; };
};

/// Run `body` as every rank, each on its own transport, and wait for all of them.  A rank that
/// throws ends the job for the others; its exception, the first one, is thrown here.  Without one,
/// a fault that the stand-in saw is thrown as contract::Broken.
void run_on_stand_in(const StandInWorld& world,
                     const std::function<void(Transport&, NcclStandIn&)>& body);

}  // namespace lrq::dist

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/nccl_api.h"
#include "src/base/ids.h"

namespace lrq::dist {

/// NCCL and CUDA on host memory, for ranks that are threads: the calls of dist/nccl_api.h with the
/// libraries' semantics, and as slow and as disorderly as those allow.
///
/// Streams do nothing by themselves.  What is queued on one runs when somebody asks for an event
/// behind it (event_query, at the earliest after a random number of asks), or when another stream
/// that is asked for waits for such an event; so work that nothing was ordered behind runs last,
/// and streams that are not ordered run in any order.  A message is copied at that moment, once
/// both ends are at the front of their streams.  Initialisation and calls are "in progress" until
/// both ends have come and the state has been asked for a random number of times.  What would hang
/// or corrupt in the libraries becomes a fault.
/// Threads: any; a rank's calls come from a thread that is AsRank.
class NcclStandIn {
 public:
  explicit NcclStandIn(unsigned seed);
  ~NcclStandIn();
  NcclStandIn(const NcclStandIn&) = delete;
  NcclStandIn& operator=(const NcclStandIn&) = delete;

  /// The table.  Its calls go to the stand-in and the rank that the calling thread is.
  [[nodiscard]] static NcclApi api();

  /// Make this thread a rank of the stand-in, until the end of the scope.
  class AsRank {
   public:
    AsRank(NcclStandIn& stand_in, Rank rank);
    ~AsRank();
    AsRank(const AsRank&) = delete;
    AsRank& operator=(const AsRank&) = delete;
  };

  /// Queue work on the compute stream of this thread's rank.
  void compute(std::function<void()> work);
  /// Run all that the compute stream of this thread's rank has been given.
  void synchronize();
  /// Memory [bytes] kByte of this rank's caching allocator, zeroed: giving it back while a message
  /// uses it, on a stream that it is not recorded on, is a fault.
  [[nodiscard]] at::Tensor device_tensor(std::int64_t bytes);
  /// Let every communicator of the rank report an asynchronous error from now on.
  void break_links(Rank rank, int code);
  /// Uses that the real libraries would answer with a hang or wrong data.
  [[nodiscard]] std::vector<std::string> faults() const;
  /// Groups of more than one operation that were given to NCCL.
  [[nodiscard]] int groups_of_several() const;

  class Impl;

 private:
  std::shared_ptr<Impl> impl_;  // shared with the tensors, which may outlive the stand-in
};

}  // namespace lrq::dist

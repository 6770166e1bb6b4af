#include <algorithm>
#include <utility>

#include "src/base/text.h"
#include "tests/dist/nccl_stand_in_impl.h"

namespace lrq::dist {

using stand_in::Comm;
using stand_in::Item;
using stand_in::kRemoteError;
using stand_in::overlap;
using stand_in::self;
using stand_in::Stream;
using stand_in::Transfer;

int NcclStandIn::Impl::get_id(NcclId* id) {
  const std::lock_guard lock(mutex_);
  id->fill(next_id_++);
  return 0;
}

int NcclStandIn::Impl::comm_init(void** comm, int size, const NcclId* id, int place) {
  const std::lock_guard lock(mutex_);
  if (size != 2 || place < 0 || place > 1) return fault("a communicator that is not of two ranks");
  Comm& made = comms_.emplace_back();
  made.owner = self().rank;
  made.place = place;
  made.id = *id;
  made.busy = some();
  *comm = &made;
  return kNcclInProgress;
}

Comm* NcclStandIn::Impl::other_end(const Comm& comm) {
  for (Comm& other : comms_) {
    if (other.id == comm.id && other.place != comm.place) return &other;
  }
  return nullptr;
}

int NcclStandIn::Impl::comm_state(Comm& comm, int* state) {
  const std::lock_guard lock(mutex_);
  if (comm.closed) return fault("the state of a communicator that is gone");
  Comm* other = other_end(comm);
  comm.joined = comm.joined || other != nullptr;
  if (comm.launched && other != nullptr && other->launched) comm.connected = true;
  *state = kNcclInProgress;
  if (comm.error != 0) {
    *state = comm.error;
  } else if (comm.busy > 0) {
    --comm.busy;
  } else if (comm.joined && (comm.launching.empty() || comm.connected)) {
    enqueue(comm);
    *state = 0;
  }
  return 0;
}

/// The call is on the stream only now, as it is when NCCL connects in the background.
void NcclStandIn::Impl::enqueue(Comm& comm) {
  if (comm.launching.empty()) return;
  Item item;
  item.group = std::exchange(comm.launching, {});
  comm.stream->items.push_back(std::move(item));
}

int NcclStandIn::Impl::comm_finalize(Comm& comm) {
  const std::lock_guard lock(mutex_);
  comm.busy = some();
  return kNcclInProgress;
}

int NcclStandIn::Impl::comm_destroy(Comm& comm) {
  const std::lock_guard lock(mutex_);
  if (comm.closed || comm.busy > 0) return fault("a communicator is destroyed while it is busy");
  for (const Transfer* transfer : comm.transfers) {
    if (!transfer->done) return fault("a communicator is destroyed with a message under way");
  }
  comm.closed = true;
  return 0;
}

int NcclStandIn::Impl::comm_abort(Comm& comm) {
  const std::lock_guard lock(mutex_);
  if (comm.closed) return fault("a communicator is aborted that is gone");
  // Its transfers stay: a kernel leaves the GPU some time after the call, and may write until then.
  comm.closed = true;
  Comm* other = other_end(comm);
  if (other != nullptr && other->error == 0) other->error = kRemoteError;
  return 0;
}

void NcclStandIn::Impl::check_buffer(const Transfer& transfer) {
  for (const Transfer& other : transfers_) {
    if (&other == &transfer || other.done || other.comm->owner != transfer.comm->owner) continue;
    if (other.sends && transfer.sends) continue;
    if (overlap(other, transfer.data, transfer.bytes)) {
      fault(concat("rank ", transfer.comm->owner, " reuses a buffer in flight"));
    }
  }
}

int NcclStandIn::Impl::transfer(char* data, std::size_t bytes, bool sends, int peer, Comm& comm,
                                Stream& stream) {
  const std::lock_guard lock(mutex_);
  if (comm.closed || comm.busy > 0 || !comm.joined || !comm.launching.empty()) {
    return fault("a call on a communicator that is gone or whose last call is in progress");
  }
  if (peer != 1 - comm.place) return fault("a message to a rank that is not the peer");
  if (comm.stream != nullptr && comm.stream != &stream) {
    return fault("a communicator's calls come on two streams, which makes each wait for the other");
  }
  comm.stream = &stream;
  Transfer& made = transfers_.emplace_back(
      Transfer{.comm = &comm, .stream = &stream, .data = data, .bytes = bytes, .sends = sends});
  check_buffer(made);
  comm.transfers.push_back(&made);
  self().group.push_back(&made);
  return 0;
}

int NcclStandIn::Impl::group_end() {
  const std::lock_guard lock(mutex_);
  if (--self().depth < 0) return fault("a group ends that did not start");
  std::vector<Transfer*> group = std::exchange(self().group, {});
  if (group.empty()) return 0;
  if (group.size() > 1) ++groups_of_several_;
  Comm& comm = *group.front()->comm;
  comm.launching = std::move(group);
  comm.launched = true;
  comm.busy = some();
  if (comm.busy > 0 || !comm.connected) return kNcclInProgress;
  enqueue(comm);
  return 0;
}

}  // namespace lrq::dist

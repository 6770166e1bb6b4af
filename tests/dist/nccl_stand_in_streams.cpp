#include <algorithm>
#include <cstring>

#include "src/base/text.h"
#include "tests/dist/nccl_stand_in_impl.h"

namespace lrq::dist {

using stand_in::Allocation;
using stand_in::Comm;
using stand_in::Event;
using stand_in::Item;
using stand_in::overlap;
using stand_in::self;
using stand_in::Stream;
using stand_in::Transfer;

bool stand_in::overlap(const Transfer& transfer, const char* data, std::size_t bytes) {
  return transfer.data < data + bytes && data < transfer.data + transfer.bytes;
}

int NcclStandIn::Impl::event_create(void** event) {
  const std::lock_guard lock(mutex_);
  *event = &events_.emplace_back();
  return 0;
}

int NcclStandIn::Impl::event_record(Event& event, Stream& stream) {
  const std::lock_guard lock(mutex_);
  event.stream = &stream;
  event.done = false;
  event.asks = some();
  Item item;
  item.record = &event;
  stream.items.push_back(std::move(item));
  return 0;
}

int NcclStandIn::Impl::event_query(Event& event) {
  const std::lock_guard lock(mutex_);
  if (event.stream == nullptr || event.done) return 0;
  if (event.asks-- > 0) return kCudaNotReady;
  return run_until(*event.stream, [&] { return event.done; }) ? 0 : kCudaNotReady;
}

int NcclStandIn::Impl::stream_wait_event(Stream& stream, Event& event) {
  const std::lock_guard lock(mutex_);
  Item item;
  item.wait = &event;
  stream.items.push_back(std::move(item));
  return 0;
}

/// Run the stream's items in order until `reached`; false if one of them cannot run yet.
bool NcclStandIn::Impl::run_until(Stream& stream, const std::function<bool()>& reached) {
  if (reached()) return true;
  if (stream.being_run) return false;
  stream.being_run = true;
  while (!reached() && !stream.items.empty() && run_item(stream.items.front())) {
    stream.items.pop_front();
  }
  stream.being_run = false;
  return reached();
}

bool NcclStandIn::Impl::run_item(Item& item) {
  if (item.work) item.work();
  if (item.record != nullptr) item.record->done = true;
  if (item.wait != nullptr && item.wait->stream != nullptr) {
    Event& event = *item.wait;
    return run_until(*event.stream, [&] { return event.done; });
  }
  bool all = true;
  for (Transfer* transfer : item.group) all = run_transfer(*transfer) && all;
  return all;
}

/// The k-th call of one end meets the k-th of the other.
Transfer* NcclStandIn::Impl::partner(const Transfer& transfer) {
  const std::vector<Transfer*>& mine = transfer.comm->transfers;
  const Comm* other = other_end(*transfer.comm);
  const auto place = std::find(mine.begin(), mine.end(), &transfer) - mine.begin();
  if (other == nullptr || place >= static_cast<std::ptrdiff_t>(other->transfers.size())) {
    return nullptr;
  }
  return other->transfers[static_cast<std::size_t>(place)];
}

bool NcclStandIn::Impl::is_at_front(const Transfer& transfer) {
  const auto& items = transfer.stream->items;
  return !items.empty() && std::find(items.front().group.begin(), items.front().group.end(),
                                     &transfer) != items.front().group.end();
}

bool NcclStandIn::Impl::run_transfer(Transfer& transfer) {
  if (transfer.done) return true;
  Transfer* other = partner(transfer);
  if (other == nullptr || transfer.comm->closed || other->comm->closed) return false;
  // What the other stream has to do before comes first; it is not asked for what comes after.
  if (!run_until(*other->stream, [&] { return is_at_front(*other); })) return false;
  if (transfer.sends == other->sends || transfer.bytes != other->bytes) {
    fault("a message meets a call of another size or direction: NCCL would hang");
    return false;
  }
  const Transfer& from = transfer.sends ? transfer : *other;
  const Transfer& into = transfer.sends ? *other : transfer;
  std::memcpy(into.data, from.data, from.bytes);
  transfer.done = true;
  other->done = true;
  return true;
}

Stream& NcclStandIn::Impl::compute_stream_of(Rank rank) {
  Stream& stream = compute_[rank];
  stream.rank = rank;
  return stream;
}

int NcclStandIn::Impl::compute_stream(void** stream) {
  const std::lock_guard lock(mutex_);
  *stream = &compute_stream_of(self().rank);
  return 0;
}

int NcclStandIn::Impl::new_stream(void** stream) {
  const std::lock_guard lock(mutex_);
  Stream& made = streams_.emplace_back();
  made.rank = self().rank;
  *stream = &made;
  return 0;
}

int NcclStandIn::Impl::record_stream(const at::Tensor& tensor, void* stream) {
  const std::lock_guard lock(mutex_);
  for (Allocation& allocation : allocations_) {
    if (allocation.memory.data() == tensor.storage().data()) allocation.recorded.insert(stream);
  }
  return 0;
}

void NcclStandIn::Impl::compute(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  Item item;
  item.work = std::move(work);
  compute_stream_of(self().rank).items.push_back(std::move(item));
}

void NcclStandIn::Impl::synchronize() {
  const std::lock_guard lock(mutex_);
  Stream& stream = compute_stream_of(self().rank);
  run_until(stream, [&] { return stream.items.empty(); });
}

char* NcclStandIn::Impl::allocate(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  Allocation& made = allocations_.emplace_back();
  made.rank = self().rank;
  made.memory.resize(static_cast<std::size_t>(bytes));
  return made.memory.data();
}

void NcclStandIn::Impl::give_back(const char* data) {
  const std::lock_guard lock(mutex_);
  for (const Allocation& allocation : allocations_) {
    if (allocation.memory.data() != data) continue;
    for (const Transfer& transfer : transfers_) {
      if (transfer.done || !overlap(transfer, data, allocation.memory.size())) continue;
      if (!allocation.recorded.contains(transfer.stream)) {
        fault(concat("rank ", allocation.rank, " gives memory back that a message still uses"));
      }
    }
  }
}

void NcclStandIn::Impl::break_links(Rank rank, int code) {
  const std::lock_guard lock(mutex_);
  for (Comm& comm : comms_) {
    if (comm.owner == rank) comm.error = code;
  }
}

std::vector<std::string> NcclStandIn::Impl::faults() const {
  const std::lock_guard lock(mutex_);
  return faults_;
}

int NcclStandIn::Impl::groups_of_several() const {
  const std::lock_guard lock(mutex_);
  return groups_of_several_;
}

}  // namespace lrq::dist

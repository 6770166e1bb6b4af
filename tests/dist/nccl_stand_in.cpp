#include "tests/dist/nccl_stand_in.h"

#include <utility>

#include <ATen/ops/from_blob.h>

#include "src/base/check.h"
#include "tests/dist/nccl_stand_in_impl.h"

namespace lrq::dist {

using stand_in::kRemoteError;
using stand_in::self;
using stand_in::Self;

Self& stand_in::self() {
  thread_local Self current;
  return current;
}

namespace {

NcclStandIn::Impl& impl() {
  expect(self().impl != nullptr, "a thread that calls the stand-in is a rank of it");
  return *self().impl;
}

stand_in::Comm& as_comm(void* comm) { return *static_cast<stand_in::Comm*>(comm); }
stand_in::Event& as_event(void* event) { return *static_cast<stand_in::Event*>(event); }
stand_in::Stream& as_stream(void* stream) { return *static_cast<stand_in::Stream*>(stream); }

}  // namespace

NcclStandIn::NcclStandIn(unsigned seed) : impl_(std::make_shared<Impl>(seed)) {}
NcclStandIn::~NcclStandIn() = default;

NcclStandIn::AsRank::AsRank(NcclStandIn& stand_in, Rank rank) {
  self() = Self{.impl = stand_in.impl_.get(), .rank = rank};
}
NcclStandIn::AsRank::~AsRank() { self() = Self{}; }

void NcclStandIn::compute(std::function<void()> work) { impl_->compute(std::move(work)); }
void NcclStandIn::synchronize() { impl_->synchronize(); }
void NcclStandIn::break_links(Rank rank, int code) { impl_->break_links(rank, code); }
std::vector<std::string> NcclStandIn::faults() const { return impl_->faults(); }
int NcclStandIn::groups_of_several() const { return impl_->groups_of_several(); }

at::Tensor NcclStandIn::device_tensor(std::int64_t bytes) {
  char* data = impl_->allocate(bytes);
  return at::from_blob(
      data, {bytes}, [owner = impl_, data](void* /*memory*/) { owner->give_back(data); },
      at::TensorOptions(at::kCPU).dtype(at::kByte));
}

NcclApi NcclStandIn::api() {
  return {
      .get_version =
          [](int* version) {
            *version = 22705;
            return 0;
          },
      .error_text =
          [](int code) { return code == kRemoteError ? "remote process exited" : "an error"; },
      .last_error = [](void* /*comm*/) { return "the stand-in's last words"; },
      .get_id = [](NcclId* id) { return impl().get_id(id); },
      .comm_init = [](void** comm, int size, const NcclId* id,
                      int place) { return impl().comm_init(comm, size, id, place); },
      .comm_state = [](void* comm, int* state) { return impl().comm_state(as_comm(comm), state); },
      .comm_finalize = [](void* comm) { return impl().comm_finalize(as_comm(comm)); },
      .comm_destroy = [](void* comm) { return impl().comm_destroy(as_comm(comm)); },
      .comm_abort = [](void* comm) { return impl().comm_abort(as_comm(comm)); },
      .group_start =
          [] {
            ++self().depth;
            return 0;
          },
      .group_end = [] { return impl().group_end(); },
      .send =
          [](const void* data, std::size_t bytes, int peer, void* comm, void* stream) {
            auto* memory = static_cast<char*>(const_cast<void*>(data));  // only read
            return impl().transfer(memory, bytes, true, peer, as_comm(comm), as_stream(stream));
          },
      .recv =
          [](void* data, std::size_t bytes, int peer, void* comm, void* stream) {
            return impl().transfer(static_cast<char*>(data), bytes, false, peer, as_comm(comm),
                                   as_stream(stream));
          },
      .get_device_count =
          [](int* count) {
            *count = 8;
            return 0;
          },
      .set_device = [](int device) { return device < 8 ? 0 : 101; },
      .cuda_error_text = [](int code) { return code == 101 ? "invalid device ordinal" : "?"; },
      .event_create = [](void** event) { return impl().event_create(event); },
      .event_destroy = [](void* /*event*/) { return 0; },
      .event_record =
          [](void* event, void* stream) {
            return impl().event_record(as_event(event), as_stream(stream));
          },
      .event_query = [](void* event) { return impl().event_query(as_event(event)); },
      .stream_wait_event =
          [](void* stream, void* event) {
            return impl().stream_wait_event(as_stream(stream), as_event(event));
          },
      .compute_stream = [](void** stream) { return impl().compute_stream(stream); },
      .new_stream = [](void** stream) { return impl().new_stream(stream); },
      .record_stream = [](const at::Tensor& tensor,
                          void* stream) { return impl().record_stream(tensor, stream); }};
}

}  // namespace lrq::dist

#include "dist/nccl_channel.h"

#include <utility>

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

// A channel's communicator has two ranks.
constexpr int kSender = 0;
constexpr int kReceiver = 1;

Notice offer_of(const Exchange& exchange, Notice::Kind kind) {
  return {.kind = kind,
          .dtype = static_cast<std::int32_t>(exchange.dtype),
          .bytes = exchange.bytes,
          .id = {}};
}

bool names(const Notice& notice, const Exchange& exchange) {
  return notice.bytes == exchange.bytes &&
         notice.dtype == static_cast<std::int32_t>(exchange.dtype);
}

std::string describe(const Notice& notice) {
  return concat(notice.bytes, " bytes of ",
                at::toString(static_cast<at::ScalarType>(notice.dtype)));
}

}  // namespace

NcclEvent::NcclEvent(const NcclApi& api, void* stream, std::string_view where) : api_(api) {
  check_cuda(api, api.event_create(&event_), "cudaEventCreate", where);
  const int code = api.event_record(event_, stream);
  if (code != 0) (void)api.event_destroy(event_);  // no destructor after a constructor that throws
  check_cuda(api, code, "cudaEventRecord", where);
}

NcclEvent::~NcclEvent() { (void)api_.event_destroy(event_); }

NcclChannel::NcclChannel(const NcclApi& api, HostLink& link, Direction direction, Rank self,
                         Rank peer)
    : api_(api), link_(link), direction_(direction), self_(self), peer_(peer) {
  check_cuda(api_, api_.new_stream(&stream_), "cudaStreamCreateWithPriority", where());
}

NcclChannel::~NcclChannel() { abort(); }

std::string NcclChannel::where() const {
  const bool sends = direction_ == Direction::kSend;
  return concat("channel from rank ", sends ? self_ : peer_, " to rank ", sends ? peer_ : self_);
}

std::string NcclChannel::where(const NcclOperation& operation) const {
  return concat(dist::describe(operation.exchange), ", ", where());
}

void NcclChannel::open(const NcclId& id) {
  const int rank = direction_ == Direction::kSend ? kSender : kReceiver;
  check_nccl(api_, api_.comm_init(&comm_, 2, &id, rank), "ncclCommInitRankConfig", comm_, where());
}

void NcclChannel::add(NcclOperation& operation) {
  if (direction_ == Direction::kReceive) {
    queue_.push_back(&operation);
    return;
  }
  if (comm_ == nullptr && operation.exchange.bytes > 0) {
    Notice notice{.kind = Notice::Kind::kOpen};
    check_nccl(api_, api_.get_id(&notice.id), "ncclGetUniqueId", nullptr, where(operation));
    link_.post(peer_, notice);
    open(notice.id);
  }
  link_.post(peer_, offer_of(operation.exchange, Notice::Kind::kOffer));
  if (operation.exchange.bytes > 0) {
    queue_.push_back(&operation);
  } else {
    operation.complete = true;
  }
}

void NcclChannel::take(const Notice& notice) {
  if (notice.kind == Notice::Kind::kOpen) {
    open(notice.id);
  } else if (notice.kind == Notice::Kind::kOffer) {
    offers_.push_back(notice);
  } else {
    throw TransportError(
        {.what = concat("rank ", peer_, " refused a message: it expects ", describe(notice)),
         .where = where(),
         .fix = "start every rank with the same program, model and options"});
  }
}

void NcclChannel::advance() {
  complete_done();
  if (!settled()) return;
  launch();
  (void)settled();
}

void NcclChannel::complete_done() {
  while (!running_.empty()) {
    NcclOperation& first = *running_.front();
    const int code = api_.event_query(first.done->get());
    if (code == kCudaNotReady) return;
    check_cuda(api_, code, "cudaEventQuery", where(first));
    first.complete = true;
    running_.pop_front();
  }
}

/// Whether NCCL can take another call.  What it had taken is on the stream then, and only then: an
/// event that is recorded earlier would be complete before the message.
bool NcclChannel::settled() {
  if (comm_ == nullptr) return true;
  int state = 0;
  const std::deque<NcclOperation*>& waiting = running_.empty() ? queue_ : running_;
  const std::string place = !launching_.empty() ? where(*launching_.front())
                            : !waiting.empty()  ? where(*waiting.front())
                                                : where();
  check_nccl(api_, api_.comm_state(comm_, &state), "ncclCommGetAsyncError", comm_, place);
  check_nccl(api_, state, "the communicator's state (ncclCommGetAsyncError)", comm_, place);
  if (state == kNcclInProgress) return false;
  for (NcclOperation* operation : std::exchange(launching_, {})) {
    operation->done.emplace(api_, stream_, place);
    running_.push_back(operation);
  }
  return true;
}

void NcclChannel::launch() {
  std::vector<NcclOperation*> group;
  while (next_is_here()) {
    group.push_back(queue_.front());
    queue_.pop_front();
    if (direction_ == Direction::kSend) break;
  }
  if (!group.empty()) launch_group(group);
}

/// Whether the first operation of the queue can be given to NCCL.  Empty messages end here.
bool NcclChannel::next_is_here() {
  if (direction_ == Direction::kSend) return !queue_.empty();
  while (!queue_.empty() && !offers_.empty()) {
    NcclOperation& first = *queue_.front();
    if (!names(offers_.front(), first.exchange)) {
      link_.post(peer_, offer_of(first.exchange, Notice::Kind::kRefusal));
      throw mismatch_error(first.exchange, describe(offers_.front()));
    }
    offers_.pop_front();
    if (first.exchange.bytes > 0) return true;
    first.complete = true;
    queue_.pop_front();
  }
  return false;
}

void NcclChannel::launch_group(const std::vector<NcclOperation*>& group) {
  const NcclOperation& first = *group.front();
  expect(comm_ != nullptr, "a message that is not empty comes after its channel's id");
  for (const NcclOperation* operation : group) {
    check_cuda(api_, api_.stream_wait_event(stream_, operation->ready->get()),
               "cudaStreamWaitEvent", where(*operation));
  }
  const bool sends = direction_ == Direction::kSend;
  int code = api_.group_start();
  check_nccl(api_, code, "ncclGroupStart", comm_, where(first));
  for (const NcclOperation* operation : group) {
    if (code != 0 && code != kNcclInProgress) break;
    const at::Tensor& t = operation->tensor;
    code = sends ? api_.send(t.const_data_ptr(), t.nbytes(), kReceiver, comm_, stream_)
                 : api_.recv(t.mutable_data_ptr(), t.nbytes(), kSender, comm_, stream_);
  }
  const int end = api_.group_end();  // also after an error, else every later call is in the group
  launching_ = group;
  check_nccl(api_, code, sends ? "ncclSend" : "ncclRecv", comm_, where(first));
  check_nccl(api_, end, "ncclGroupEnd", comm_, where(first));
}

void NcclChannel::start_close() {
  if (comm_ == nullptr) return;
  check_nccl(api_, api_.comm_finalize(comm_), "ncclCommFinalize", comm_, where());
}

bool NcclChannel::closed() {
  if (comm_ == nullptr) return true;
  if (!settled()) return false;
  const int code = api_.comm_destroy(std::exchange(comm_, nullptr));
  check_nccl(api_, code, "ncclCommDestroy", nullptr, where());
  return true;
}

void NcclChannel::abort() noexcept {
  if (comm_ != nullptr) (void)api_.comm_abort(std::exchange(comm_, nullptr));
}

}  // namespace lrq::dist

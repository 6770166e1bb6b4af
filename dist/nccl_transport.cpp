#include "dist/nccl_transport.h"

#include <algorithm>
#include <exception>
#include <list>
#include <map>
#include <utility>

#include "dist/exchange.h"
#include "dist/nccl_channel.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

using std::chrono::nanoseconds;

class NcclTransport final : public Transport {
 public:
  NcclTransport(const NcclApi& api, std::unique_ptr<HostLink> link,
                const NcclTransportOptions& options);
  ~NcclTransport() override;
  NcclTransport(const NcclTransport&) = delete;
  NcclTransport& operator=(const NcclTransport&) = delete;

  [[nodiscard]] Rank rank() const override { return link_->tensors().rank(); }
  [[nodiscard]] int size() const override { return link_->tensors().size(); }
  [[nodiscard]] std::string_view name() const override { return "nccl"; }
  [[nodiscard]] std::unique_ptr<Pending> send(const at::Tensor& t, Rank to,
                                              std::string_view label) override;
  [[nodiscard]] std::unique_ptr<Pending> recv(const at::Tensor& into, Rank from,
                                              std::string_view label) override;
  void abort(int exit_code) noexcept override;
  [[nodiscard]] nanoseconds waited() const override { return waited_ + link_->tensors().waited(); }

  void wait(NcclOperation& operation);
  void drop(NcclOperation& operation);

 private:
  std::unique_ptr<Pending> start(Direction direction, const at::Tensor& t, Rank peer,
                                 std::string_view label);
  NcclChannel& channel(Direction direction, Rank peer);
  bool progress();
  void step();
  void take_notices();
  void fail(const TransportError& error) noexcept;
  void throw_if_failed() const;
  /// Step until `done`, at most for the timeout.
  template <typename Done>
  void step_until(Done done);
  void close();

  const NcclApi api_;
  const NcclTransportOptions options_;
  std::unique_ptr<HostLink> link_;
  std::list<NcclOperation> operations_;  // a list: channels hold addresses of its elements
  std::map<std::pair<Direction, Rank>, NcclChannel> channels_;
  std::optional<TransportError> error_;
  bool aborted_ = false;
  int exceptions_ = std::uncaught_exceptions();
  nanoseconds waited_{0};
};

class NcclPending final : public Pending {
 public:
  NcclPending(NcclTransport& transport, NcclOperation& operation)
      : transport_(transport), operation_(operation) {}
  ~NcclPending() override { transport_.drop(operation_); }
  NcclPending(const NcclPending&) = delete;
  NcclPending& operator=(const NcclPending&) = delete;
  void wait() override { transport_.wait(operation_); }

 private:
  NcclTransport& transport_;
  NcclOperation& operation_;
};

NcclTransport::NcclTransport(const NcclApi& api, std::unique_ptr<HostLink> link,
                             const NcclTransportOptions& options)
    : api_(api), options_(options), link_(std::move(link)) {
  const std::string where = concat("GPU ", options.device, " of rank ", rank());
  check_cuda(api_, api_.set_device(options.device), "cudaSetDevice", where);
  link_->while_waiting([this] {
    if (!progress()) throw_if_failed();
  });
}

std::unique_ptr<Pending> NcclTransport::send(const at::Tensor& t, Rank to, std::string_view label) {
  if (t.defined() && !options_.on_device(t)) return link_->tensors().send(t, to, label);
  return start(Direction::kSend, t, to, label);
}

std::unique_ptr<Pending> NcclTransport::recv(const at::Tensor& into, Rank from,
                                             std::string_view label) {
  if (into.defined() && !options_.on_device(into)) return link_->tensors().recv(into, from, label);
  return start(Direction::kReceive, into, from, label);
}

std::unique_ptr<Pending> NcclTransport::start(Direction direction, const at::Tensor& t, Rank peer,
                                              std::string_view label) {
  Exchange exchange = make_exchange(direction, *this, t, peer, label);
  throw_if_failed();
  const std::string where = describe(exchange);
  NcclOperation& operation = operations_.emplace_back();
  operation.exchange = std::move(exchange);
  operation.tensor = t;
  try {
    NcclChannel& there = channel(direction, peer);
    if (operation.exchange.bytes > 0) {
      void* compute = nullptr;
      check_cuda(api_, api_.compute_stream(&compute), "LibTorch's current stream", where);
      operation.ready.emplace(api_, compute, where);
      check_cuda(api_, api_.record_stream(t, there.stream()), "LibTorch's recordStream", where);
    }
    there.add(operation);
  } catch (const TransportError& error) {
    fail(error);
    throw;
  }
  progress();  // its error is thrown by the wait
  return std::make_unique<NcclPending>(*this, operation);
}

NcclChannel& NcclTransport::channel(Direction direction, Rank peer) {
  return channels_.try_emplace({direction, peer}, api_, *link_, direction, rank(), peer)
      .first->second;
}

void NcclTransport::take_notices() {
  while (const auto arrival = link_->poll()) {
    const bool refusal = arrival->notice.kind == Notice::Kind::kRefusal;
    channel(refusal ? Direction::kSend : Direction::kReceive, arrival->from).take(arrival->notice);
  }
}

void NcclTransport::step() {
  take_notices();
  try {
    for (auto& [key, there] : channels_) there.advance();
  } catch (const TransportError&) {
    take_notices();  // a peer that refused a message says why; NCCL only that the peer is gone
    throw;
  }
  operations_.remove_if(
      [](const NcclOperation& operation) { return operation.dropped && operation.complete; });
}

bool NcclTransport::progress() {
  if (error_) return false;
  try {
    step();
  } catch (const TransportError& error) {
    fail(error);
  }
  return !error_;
}

void NcclTransport::fail(const TransportError& error) noexcept {
  if (error_) return;
  error_ = error;
  // Logged before NCCL is asked to end its kernels: should that hang, the cause is known.
  log_event(LogLevel::kError, "transport-failed", error.text().what);
  for (auto& [key, there] : channels_) there.abort();
}

void NcclTransport::throw_if_failed() const {
  if (error_) throw TransportError(*error_);
}

void NcclTransport::wait(NcclOperation& operation) {
  const WaitTimer timer(waited_);
  while (!operation.complete) {
    progress();
    if (operation.complete) return;
    throw_if_failed();
    const nanoseconds waited = timer.elapsed();
    if (waited > options_.timeout) {
      fail(timeout_error(operation.exchange, waited));
    } else {
      back_off(waited);
    }
  }
}

void NcclTransport::drop(NcclOperation& operation) {
  operation.dropped = true;
  // After a failure nothing completes any more, and a tensor may be large.  The channels that hold
  // its address have been aborted and are not advanced again.
  if (!operation.complete && !error_) return;
  operations_.remove_if([&](const NcclOperation& other) { return &other == &operation; });
}

void NcclTransport::abort(int exit_code) noexcept {
  aborted_ = true;
  // Not the communicators first: ending the processes ends their kernels, and MPI's abort is the
  // call that certainly does.
  link_->abort(exit_code);
}

template <typename Done>
void NcclTransport::step_until(Done done) {
  const auto start = std::chrono::steady_clock::now();
  for (nanoseconds waited{0}; progress() && !done() && waited < options_.timeout;
       waited = std::chrono::steady_clock::now() - start) {
    back_off(waited);
  }
}

/// Finish what was dropped, then end the communicators, all at once as their peers do.
void NcclTransport::close() {
  step_until([&] {
    return std::all_of(operations_.begin(), operations_.end(),
                       [](const NcclOperation& operation) { return operation.complete; });
  });
  for (const NcclOperation& operation : operations_) {
    if (operation.complete) continue;
    log_event(LogLevel::kWarning, "message-unfinished", describe(operation.exchange));
    return;
  }
  for (auto& [key, there] : channels_) there.start_close();
  const auto start = std::chrono::steady_clock::now();
  nanoseconds waited{0};
  while (!std::all_of(channels_.begin(), channels_.end(), [](auto& entry) {
    return entry.second.closed();
  }) && waited < options_.timeout) {
    waited = std::chrono::steady_clock::now() - start;
    back_off(waited);
  }
}

NcclTransport::~NcclTransport() {
  const bool unwinding = std::uncaught_exceptions() > exceptions_;
  try {
    if (!error_ && !aborted_ && !unwinding) close();
  } catch (const TransportError& error) {
    log_event(LogLevel::kWarning, "transport-not-closed", error.text().what);
  }
  link_->while_waiting({});
  // The channels' destructors abort what is still open, before the tensors are given back.
  channels_.clear();
}

}  // namespace

std::unique_ptr<Transport> make_nccl_transport(const NcclApi& api, std::unique_ptr<HostLink> link,
                                               const NcclTransportOptions& options) {
  return std::make_unique<NcclTransport>(api, std::move(link), options);
}

}  // namespace lrq::dist

#include "dist/mpi_transport.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <map>
#include <mpi.h>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>

#include "dist/exchange.h"
#include "dist/mpi_error.h"
#include "src/base/check.h"
#include "src/base/log.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

using std::chrono::nanoseconds;

constexpr int kTag = 0;  // MPI keeps the order of one pair, communicator and tag

/// One message under way: its requests and the memory that they read or fill.
///
/// A receive is posted only once its message has been seen and has the size expected (matched
/// probe): Open MPI 4.1 writes a longer message past the end of a posted receive when it copies
/// between processes, instead of reporting MPI_ERR_TRUNCATE.
class Operation {
 public:
  Operation(Exchange exchange, const at::Tensor& t, std::int64_t piece_bytes, MPI_Comm comm);

  [[nodiscard]] const Exchange& exchange() const { return exchange_; }
  /// Post the receives of the pieces that have come.  Whether all have.  Throws TransportError on
  /// another size or an error of MPI.
  bool match();
  /// Whether every piece is complete.  Throws TransportError on an error of MPI.
  bool test();
  /// Whether MPI may still read or fill the memory.
  [[nodiscard]] bool in_use() const;

 private:
  struct Piece {
    char* data = nullptr;
    int bytes = 0;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  Exchange exchange_;
  MPI_Comm comm_;
  at::Tensor tensor_;
  at::Tensor host_;  // the tensor itself, or its copy if it is not in host memory
  std::vector<Piece> pieces_;
  std::size_t posted_ = 0;    // pieces that MPI knows of
  std::size_t complete_ = 0;  // pieces that it is done with
};

/// What MPI reads or fills for a tensor: the tensor itself in host memory, else memory like it
/// there, to send with its values.
at::Tensor host_memory_of(const at::Tensor& t, Direction direction) {
  if (t.device().is_cpu()) return t;
  if (direction == Direction::kSend) return t.detach().to(at::kCPU);
  return at::empty(t.sizes(), at::TensorOptions().dtype(t.scalar_type()).device(at::kCPU));
}

Operation::Operation(Exchange exchange, const at::Tensor& t, std::int64_t piece_bytes,
                     MPI_Comm comm)
    : exchange_(std::move(exchange)),
      comm_(comm),
      tensor_(t),
      host_(host_memory_of(t, exchange_.direction)),
      pieces_(static_cast<std::size_t>(exchange_.bytes / piece_bytes + 1)) {
  char* data = exchange_.bytes == 0 ? nullptr : static_cast<char*>(host_.mutable_data_ptr());
  std::int64_t start = 0;
  for (Piece& piece : pieces_) {
    piece.data = data == nullptr ? nullptr : data + start;
    piece.bytes = static_cast<int>(std::min(piece_bytes, exchange_.bytes - start));
    start += piece.bytes;
  }
  if (exchange_.direction == Direction::kReceive) return;
  for (; posted_ < pieces_.size(); ++posted_) {
    Piece& piece = pieces_[posted_];
    check_mpi(MPI_Isend(piece.data, piece.bytes, MPI_BYTE, exchange_.peer.value, kTag, comm_,
                        &piece.request),
              "MPI_Isend", describe(exchange_));
  }
}

bool Operation::match() {
  for (; posted_ < pieces_.size(); ++posted_) {
    Piece& piece = pieces_[posted_];
    int here = 0;
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status = {};
    check_mpi(MPI_Improbe(exchange_.peer.value, kTag, comm_, &here, &message, &status),
              "MPI_Improbe", describe(exchange_));
    if (here == 0) return false;
    check_mpi(MPI_Get_count(&status, MPI_BYTE, &found), "MPI_Get_count", describe(exchange_));
    if (found != piece.bytes) {
      const std::int64_t before = pieces_.front().bytes * static_cast<std::int64_t>(posted_);
      const bool is_last = posted_ + 1 == pieces_.size();
      throw mismatch_error(
          exchange_, concat(before + found, " bytes", is_last && posted_ > 0 ? " or more" : ""));
    }
    check_mpi(MPI_Imrecv(piece.data, piece.bytes, MPI_BYTE, &message, &piece.request), "MPI_Imrecv",
              describe(exchange_));
  }
  return true;
}

bool Operation::test() {
  for (; complete_ < posted_; ++complete_) {
    int done = 0;
    check_mpi(MPI_Test(&pieces_[complete_].request, &done, MPI_STATUS_IGNORE), "MPI_Test",
              describe(exchange_));
    if (done == 0) return false;
  }
  if (complete_ < pieces_.size()) return false;
  if (exchange_.direction == Direction::kReceive && !tensor_.device().is_cpu()) {
    tensor_.copy_(host_);
  }
  return true;
}

bool Operation::in_use() const {
  return std::any_of(pieces_.begin(), pieces_.end(),
                     [](const Piece& piece) { return piece.request != MPI_REQUEST_NULL; });
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(MpiSession& session, const MpiTransportOptions& options);
  ~MpiTransport() override;
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  [[nodiscard]] Rank rank() const override { return session_.rank(); }
  [[nodiscard]] int size() const override { return session_.size(); }
  [[nodiscard]] std::string_view name() const override { return "mpi"; }
  [[nodiscard]] std::unique_ptr<Pending> send(const at::Tensor& t, Rank to,
                                              std::string_view label) override {
    return start(Direction::kSend, t, to, label);
  }
  [[nodiscard]] std::unique_ptr<Pending> recv(const at::Tensor& into, Rank from,
                                              std::string_view label) override {
    return start(Direction::kReceive, into, from, label);
  }
  void abort(int exit_code) noexcept override {
    aborted_ = true;
    session_.abort(exit_code);
  }
  [[nodiscard]] nanoseconds waited() const override { return waited_; }

  void wait(Operation& operation);
  void keep(std::unique_ptr<Operation> operation) { dropped_.push_back(std::move(operation)); }

 private:
  std::unique_ptr<Pending> start(Direction direction, const at::Tensor& t, Rank peer,
                                 std::string_view label);
  /// Move every message on; false once the transport has failed.
  bool progress();
  void finish_dropped();

  MpiSession& session_;
  MpiTransportOptions options_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  nanoseconds waited_{0};
  std::map<Rank, std::deque<Operation*>> unmatched_;  // receives in their order, by sender
  std::vector<std::unique_ptr<Operation>> dropped_;   // not waited for, not known to be done
  std::optional<TransportError> error_;               // the first; every later wait() throws it
  bool aborted_ = false;
  int exceptions_ = std::uncaught_exceptions();
};

class MpiPending final : public Pending {
 public:
  MpiPending(MpiTransport& transport, std::unique_ptr<Operation> operation)
      : transport_(transport), operation_(std::move(operation)) {}
  ~MpiPending() override {
    if (operation_) transport_.keep(std::move(operation_));
  }
  MpiPending(const MpiPending&) = delete;
  MpiPending& operator=(const MpiPending&) = delete;
  void wait() override {
    if (!operation_) return;
    transport_.wait(*operation_);
    operation_.reset();
  }

 private:
  MpiTransport& transport_;
  std::unique_ptr<Operation> operation_;
};

MpiTransport::MpiTransport(MpiSession& session, const MpiTransportOptions& options)
    : session_(session), options_(options) {
  expect(session.active(), "the MPI transport has a session that a launcher started");
  expect(options.piece_bytes > 0 && options.piece_bytes < (std::int64_t{1} << 31),
         "a piece of an MPI message has a length that fits an int");
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup", "start of the MPI transport");
}

std::unique_ptr<Pending> MpiTransport::start(Direction direction, const at::Tensor& t, Rank peer,
                                             std::string_view label) {
  Exchange exchange = make_exchange(direction, *this, t, peer, label);
  auto operation = std::make_unique<Operation>(std::move(exchange), t, options_.piece_bytes, comm_);
  if (direction == Direction::kReceive) unmatched_[peer].push_back(operation.get());
  auto pending = std::make_unique<MpiPending>(*this, std::move(operation));
  progress();
  return pending;
}

void MpiTransport::wait(Operation& operation) {
  const WaitTimer timer(waited_);
  while (!progress() || !operation.test()) {
    if (error_) throw TransportError(*error_);
    if (options_.while_waiting) options_.while_waiting();
    const nanoseconds waited = timer.elapsed();
    if (waited > options_.timeout) error_ = timeout_error(operation.exchange(), waited);
    back_off(waited);
  }
}

bool MpiTransport::progress() {
  try {
    for (auto& [sender, receives] : unmatched_) {
      while (!receives.empty() && receives.front()->match()) receives.pop_front();
    }
    for (std::size_t i = 0; i < dropped_.size();) {
      if (dropped_[i]->test()) {
        dropped_.erase(dropped_.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
  } catch (const TransportError& error) {
    if (!error_) error_ = error;
  }
  return !error_;
}

void MpiTransport::finish_dropped() {
  const auto start = std::chrono::steady_clock::now();
  for (nanoseconds waited{0}; progress() && !dropped_.empty() && waited < options_.timeout;
       waited = std::chrono::steady_clock::now() - start) {
    back_off(waited);
  }
  for (const auto& operation : dropped_) {
    log_event(LogLevel::kWarning, "message-unfinished", describe(operation->exchange()));
  }
}

MpiTransport::~MpiTransport() {
  const bool unwinding = std::uncaught_exceptions() > exceptions_;
  if (!error_ && !aborted_ && !unwinding) finish_dropped();
  const bool healthy = !error_ && !aborted_ && !unwinding && dropped_.empty();
  for (auto& operation : dropped_) {
    // Memory that MPI may still read or fill is left to it: a leak, but at the end of the process.
    if (operation->in_use()) (void)operation.release();
  }
  if (healthy) MPI_Comm_free(&comm_);
}

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(MpiSession& session,
                                              const MpiTransportOptions& options) {
  return std::make_unique<MpiTransport>(session, options);
}

}  // namespace lrq::dist

#include "dist/thread_transport.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "dist/exchange.h"
#include "dist/self_transport.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::dist {

/// What all ranks of the world share: for each direction between two ranks the messages in order.
class ThreadWorld::Mail {
 public:
  Mail(int size, std::chrono::milliseconds timeout) : size_(size), timeout_(timeout) {}
  [[nodiscard]] int size() const { return size_; }

  /// Append one side of the next message; the result numbers it within its direction.
  std::uint64_t post(const Exchange& exchange, const at::Tensor& t);
  /// Block until message `number` has been copied.
  void wait(const Exchange& exchange, std::uint64_t number, const WaitTimer& timer,
            const std::function<void()>& while_waiting);
  void abort(Rank by, int exit_code) noexcept;

 private:
  struct Side {
    Exchange exchange;
    at::Tensor tensor;
  };
  struct Message {
    std::optional<Side> sent;
    std::optional<Side> awaited;
    bool done = false;
    std::optional<TransportError> error = {};  // for the receiver
  };
  struct Channel {
    std::uint64_t sends = 0;
    std::uint64_t receives = 0;
    std::uint64_t first = 0;  // number of messages.front(); all before it are done
    std::deque<Message> messages;
  };
  struct Abort {
    Rank by;
    int exit_code;
  };

  Channel& channel(const Exchange& exchange);
  /// Block until ready(); false if the timeout passed first.
  template <typename Ready>
  bool await(std::unique_lock<std::mutex>& lock, const Ready& ready, const WaitTimer& timer,
             const std::function<void()>& meanwhile);
  void throw_if_aborted(const Exchange& exchange) const;
  static void complete(Message& message);

  const int size_;
  const std::chrono::milliseconds timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<Rank, Rank>, Channel> channels_;  // (from, to)
  std::optional<Abort> abort_;
};

ThreadWorld::Mail::Channel& ThreadWorld::Mail::channel(const Exchange& exchange) {
  const bool sends = exchange.direction == Direction::kSend;
  return channels_[sends ? std::pair{exchange.self, exchange.peer}
                         : std::pair{exchange.peer, exchange.self}];
}

void ThreadWorld::Mail::throw_if_aborted(const Exchange& exchange) const {
  if (!abort_) return;
  throw TransportError(
      {.what = concat("rank ", abort_->by, " ended the job with exit code ", abort_->exit_code),
       .where = describe(exchange),
       .fix = concat("read what rank ", abort_->by, " reported")});
}

std::uint64_t ThreadWorld::Mail::post(const Exchange& exchange, const at::Tensor& t) {
  const std::lock_guard lock(mutex_);
  throw_if_aborted(exchange);
  Channel& there = channel(exchange);
  const bool sends = exchange.direction == Direction::kSend;
  const std::uint64_t number = sends ? there.sends++ : there.receives++;
  if (number - there.first == there.messages.size()) there.messages.emplace_back();
  Message& message = there.messages[number - there.first];
  (sends ? message.sent : message.awaited) = Side{exchange, t};
  changed_.notify_all();
  return number;
}

void ThreadWorld::Mail::complete(Message& message) {
  const Side& from = *message.sent;
  const Side& into = *message.awaited;
  if (from.exchange.bytes != into.exchange.bytes || from.exchange.dtype != into.exchange.dtype) {
    message.error = mismatch_error(
        into.exchange, concat(from.exchange.bytes, " bytes of ", toString(from.exchange.dtype),
                              " ('", from.exchange.label, "')"));
  } else if (from.exchange.bytes > 0) {
    std::memcpy(into.tensor.mutable_data_ptr(), from.tensor.const_data_ptr(), from.tensor.nbytes());
  }
  message.sent.reset();
  message.awaited.reset();
  message.done = true;
}

template <typename Ready>
bool ThreadWorld::Mail::await(std::unique_lock<std::mutex>& lock, const Ready& ready,
                              const WaitTimer& timer, const std::function<void()>& meanwhile) {
  if (!meanwhile) return changed_.wait_for(lock, timeout_, ready);
  while (!ready()) {
    if (timer.elapsed() > timeout_) return false;
    lock.unlock();
    meanwhile();
    lock.lock();
    changed_.wait_for(lock, std::chrono::milliseconds(1), ready);
  }
  return true;
}

void ThreadWorld::Mail::wait(const Exchange& exchange, std::uint64_t number, const WaitTimer& timer,
                             const std::function<void()>& while_waiting) {
  std::unique_lock lock(mutex_);
  Channel& there = channel(exchange);
  const auto ready = [&] {
    if (abort_ || number < there.first) return true;
    const Message& message = there.messages[number - there.first];
    return message.done || (message.sent && message.awaited);
  };
  const bool in_time = await(lock, ready, timer, while_waiting);
  if (number < there.first) return;
  Message& message = there.messages[number - there.first];
  if (!message.done) {
    throw_if_aborted(exchange);
    if (!in_time) throw timeout_error(exchange, timer.elapsed());
    complete(message);  // by whichever side waits first: the other may be waiting elsewhere
  }
  if (message.error && exchange.direction == Direction::kReceive) {
    throw TransportError(*message.error);
  }
  while (!there.messages.empty() && there.messages.front().done && !there.messages.front().error) {
    there.messages.pop_front();
    ++there.first;
  }
  changed_.notify_all();
}

void ThreadWorld::Mail::abort(Rank by, int exit_code) noexcept {
  const std::lock_guard lock(mutex_);
  if (!abort_) abort_ = Abort{by, exit_code};
  changed_.notify_all();
}

namespace {

class ThreadPending final : public Pending {
 public:
  ThreadPending(ThreadWorld::Mail& mail, std::chrono::nanoseconds& waited,
                const std::function<void()>& while_waiting, Exchange exchange, const at::Tensor& t)
      : mail_(mail),
        waited_(waited),
        while_waiting_(while_waiting),
        exchange_(std::move(exchange)) {
    number_ = mail_.post(exchange_, t);
  }
  void wait() override {
    const WaitTimer timer(waited_);
    mail_.wait(exchange_, number_, timer, while_waiting_);
  }

 private:
  ThreadWorld::Mail& mail_;
  std::chrono::nanoseconds& waited_;
  const std::function<void()>& while_waiting_;
  Exchange exchange_;
  std::uint64_t number_ = 0;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(ThreadWorld::Mail& mail, Rank self, std::function<void()> while_waiting)
      : mail_(mail), self_(self), while_waiting_(std::move(while_waiting)) {}
  [[nodiscard]] Rank rank() const override { return self_; }
  [[nodiscard]] int size() const override { return mail_.size(); }
  [[nodiscard]] std::string_view name() const override { return "threads"; }
  [[nodiscard]] std::unique_ptr<Pending> send(const at::Tensor& t, Rank to,
                                              std::string_view label) override {
    return start(Direction::kSend, t, to, label);
  }
  [[nodiscard]] std::unique_ptr<Pending> recv(const at::Tensor& into, Rank from,
                                              std::string_view label) override {
    return start(Direction::kReceive, into, from, label);
  }
  void abort(int exit_code) noexcept override { mail_.abort(self_, exit_code); }
  [[nodiscard]] std::chrono::nanoseconds waited() const override { return waited_; }

 private:
  std::unique_ptr<Pending> start(Direction direction, const at::Tensor& t, Rank peer,
                                 std::string_view label) {
    Exchange exchange = make_exchange(direction, *this, t, peer, label);
    expect(t.device().is_cpu(), "ranks as threads carry CPU tensors");
    return std::make_unique<ThreadPending>(mail_, waited_, while_waiting_, std::move(exchange), t);
  }

  ThreadWorld::Mail& mail_;
  Rank self_;
  std::function<void()> while_waiting_;
  std::chrono::nanoseconds waited_{0};
};

}  // namespace

ThreadWorld::ThreadWorld(int size, std::chrono::milliseconds timeout)
    : mail_(std::make_unique<Mail>(size, timeout)) {
  expect(size >= 1, concat("a world of ", size, " ranks has at least one"));
}

ThreadWorld::~ThreadWorld() = default;

std::unique_ptr<Transport> ThreadWorld::rank(Rank r, std::function<void()> while_waiting) {
  expect(r.value >= 0 && r.value < mail_->size(),
         concat("rank ", r, " is one of 0 to ", mail_->size() - 1));
  if (mail_->size() == 1) return std::make_unique<SelfTransport>();
  return std::make_unique<ThreadTransport>(*mail_, r, std::move(while_waiting));
}

}  // namespace lrq::dist

#include "src/base/stop_request.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <utility>

#include "src/base/check.h"
#include "src/base/error.h"

namespace lrq {
namespace {

constexpr std::array kSignals = {SIGUSR1, SIGTERM};
constexpr unsigned char kOver = 0;  // written by the destructor; no signal has this number

// A handler may do next to nothing, so it hands the number over to a thread.  Masks and sigwait
// would not do: MPI has started threads of its own by then, and a signal reaches any of them.
std::array<int, 2> pipe_ends = {-1, -1};
std::array<struct sigaction, kSignals.size()> before;

void hand_over(int signal) {
  const int kept = errno;
  const auto number = static_cast<unsigned char>(signal);
  (void)!write(pipe_ends[1], &number, 1);
  errno = kept;
}

/// The next byte of the pipe; -1 once `deadline` has passed.
int next_byte(std::chrono::steady_clock::time_point deadline) {
  using std::chrono::milliseconds;
  while (true) {
    int wait_ms = -1;
    if (deadline != std::chrono::steady_clock::time_point::max()) {
      const auto left =
          std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
      wait_ms = static_cast<int>(std::max(left, milliseconds(0)).count());
    }
    pollfd end{.fd = pipe_ends[0], .events = POLLIN, .revents = 0};
    const int ready = poll(&end, 1, wait_ms);
    unsigned char byte = 0;
    if (ready > 0 && read(pipe_ends[0], &byte, 1) == 1) return byte;
    if (ready == 0) return -1;
  }
}

}  // namespace

StopRequest::StopRequest(std::chrono::nanoseconds timeout, std::function<void()> too_late)
    : timeout_(timeout), too_late_(std::move(too_late)) {
  expect(pipe_ends[0] < 0, "one stop request at a time");
  expect(pipe2(pipe_ends.data(), O_CLOEXEC | O_NONBLOCK) == 0, "the system gives a pipe");
  watcher_ = std::thread([this] { watch(); });
  struct sigaction action = {};
  action.sa_handler = hand_over;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    expect(sigaction(kSignals.at(i), &action, &before.at(i)) == 0, "the system takes a handler");
  }
}

StopRequest::~StopRequest() {
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals.at(i), asked() ? &ignore : &before.at(i), nullptr);
  }
  (void)!write(pipe_ends[1], &kOver, 1);
  watcher_.join();
  for (int& end : pipe_ends) close(std::exchange(end, -1));
}

std::string StopRequest::signal_name() const {
  const int signal = signal_.load();
  if (signal == 0) return "";
  return signal == SIGUSR1 ? "SIGUSR1" : "SIGTERM";
}

void StopRequest::watch() {
  auto deadline = std::chrono::steady_clock::time_point::max();
  for (int byte = next_byte(deadline); byte != kOver; byte = next_byte(deadline)) {
    if (byte < 0) {
      too_late_();
      // Not exit(): the other threads are in the middle of something.
      _exit(kExitStopped);
    }
    if (signal_.load() != 0) continue;
    signal_.store(byte);
    deadline = std::chrono::steady_clock::now() +
               std::chrono::duration_cast<std::chrono::steady_clock::duration>(timeout_);
  }
}

}  // namespace lrq

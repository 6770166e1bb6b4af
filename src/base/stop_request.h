#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace lrq {

/// Turns SIGUSR1 and SIGTERM into a request to stop, as long as it lives; at most one at a time.
/// A process that is still there `timeout` after the signal runs `too_late` (on a thread of its
/// own: no MPI calls) and ends with kExitStopped, whatever it does or waits for then.
/// Further signals change nothing, also later: a launcher sends SIGTERM to the ranks that are still
/// there when the first one ends, and they are to end with their own exit code.
class StopRequest {
 public:
  /// Throws BugError if there is one already or the system refuses a handler.
  StopRequest(std::chrono::nanoseconds timeout, std::function<void()> too_late);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  [[nodiscard]] bool asked() const noexcept { return signal_.load() != 0; }
  /// "SIGUSR1" or "SIGTERM"; empty while nothing is asked.
  [[nodiscard]] std::string signal_name() const;

 private:
  void watch();

  std::chrono::nanoseconds timeout_;
  std::function<void()> too_late_;
  std::atomic<int> signal_{0};
  std::thread watcher_;
};

}  // namespace lrq

#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace lrq::io {

/// A thread that does file work in the order in which it is given, while its owner computes.  What
/// it works on is not touched by anyone else until the work is done, and outlives it.
class IoThread {
 public:
  /// limit: pieces of work given and not done at most; another one waits.
  explicit IoThread(std::size_t limit);
  /// Work that has not begun is dropped, that under way is waited for.
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  /// Throws what earlier work threw, once; what came behind that work has then been dropped.
  void give(std::function<void()> work);
  /// Wait until all work is done.  Throws as give() does.
  void finish();

 private:
  void run();
  void throw_failure();  // under the mutex

  const std::size_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // the first one is under way
  std::exception_ptr failure_;
  bool ends_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace lrq::io

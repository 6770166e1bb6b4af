#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <ATen/core/Tensor.h>

#include "io/activation_store.h"

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

/// What a reader will be asked for next.
struct PlannedRead {
  const BoundaryReader* reader = nullptr;  // Owns: borrowed until it is taken
  std::int64_t sample = 0;
};

/// Reads on a thread of its own what will be asked for next, so that nobody waits for the disk.
class ReadAhead {
 public:
  /// plan: called once for each read, in the order in which they are taken; null: no more.
  /// window: samples that are read and not yet taken at most.
  ReadAhead(std::function<PlannedRead()> plan, std::size_t window);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// The next sample of the plan [1, T, C], newly allocated; expected says which that should be.
  /// Reads it itself if the thread has not begun to: on a busy machine the thread may not run.
  /// Throws what BoundaryReader::read throws.
  [[nodiscard]] at::Tensor take(const PlannedRead& expected);

 private:
  struct Read {
    PlannedRead what;
    bool begun = false;
    bool done = false;
    at::Tensor sample;
    std::exception_ptr failure;
  };
  void run();
  void plan_more();
  [[nodiscard]] std::shared_ptr<Read> next_to_begin() const;

  std::function<PlannedRead()> plan_;  // of the owner's thread
  std::size_t window_;
  std::mutex mutex_;
  std::condition_variable planned_;
  std::condition_variable done_;
  std::deque<std::shared_ptr<Read>> reads_;
  bool ends_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace lrq::io

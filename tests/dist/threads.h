#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <mutex>

#include "dist/transport.h"

namespace lrq::dist {

/// The first exception of several threads.
class FirstFailure {
 public:
  /// Call it where an exception is handled, before the others are told to end.
  void keep_current() {
    const std::lock_guard lock(mutex_);
    if (!first_) first_ = std::current_exception();
  }
  /// After all threads have ended.
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

/// Run `body` as every rank of a fresh ThreadWorld and wait for all of them.  A rank that throws
/// ends the job for the others; its exception, the first one, is thrown here.
void run_as_threads(int ranks, std::chrono::milliseconds timeout,
                    const std::function<void(Transport&)>& body);

}  // namespace lrq::dist

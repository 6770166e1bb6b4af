#include "io/io_thread.h"

#include <utility>

#include "src/base/check.h"

namespace lrq::io {

IoThread::IoThread(std::size_t limit) : limit_(limit), thread_([this] { run(); }) {
  expect(limit > 0, "an I/O thread takes some work");
}

IoThread::~IoThread() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void IoThread::give(std::function<void()> work) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return failure_ || work_.size() < limit_; });
  throw_failure();
  work_.push_back(std::move(work));
  lock.unlock();
  changed_.notify_all();
}

void IoThread::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return failure_ || work_.empty(); });
  throw_failure();
}

void IoThread::throw_failure() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void IoThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ends_ || !work_.empty(); });
    if (ends_) return;
    const std::function<void()> work = std::move(work_.front());
    lock.unlock();
    std::exception_ptr failure;
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    work_.pop_front();
    if (failure) {
      failure_ = failure;
      work_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace lrq::io

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <ATen/core/Tensor.h>

#include "io/activation_store.h"

namespace lrq::io {

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
  /// place: moves a sample, on the thread that has read it, to memory that suits its use; or null.
  ReadAhead(std::function<PlannedRead()> plan, std::size_t window,
            std::function<at::Tensor(const at::Tensor&)> place = nullptr);
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
  [[nodiscard]] at::Tensor read(const PlannedRead& what) const;

  std::function<PlannedRead()> plan_;  // of the owner's thread
  std::size_t window_;
  std::function<at::Tensor(const at::Tensor&)> place_;
  std::mutex mutex_;
  std::condition_variable planned_;
  std::condition_variable done_;
  std::deque<std::shared_ptr<Read>> reads_;
  bool ends_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace lrq::io

#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "dist/transport.h"

namespace lrq::dist {

/// Ranks as threads of one process, for tests.  Stricter than MPI: nothing is buffered, so a send
/// completes only when its receive has been posted, and the tensor is read as late as possible.
/// A tensor that is changed before wait() has returned therefore arrives changed.
/// Threads: rank() from any; each Transport from the one thread that is its rank.
/// Owns: the state behind its transports and must outlive them.
class ThreadWorld {
 public:
  ThreadWorld(int size, std::chrono::milliseconds timeout);
  ~ThreadWorld();
  ThreadWorld(const ThreadWorld&) = delete;
  ThreadWorld& operator=(const ThreadWorld&) = delete;

  /// The transport of rank r ("threads"; of a world of one "self").  CPU tensors only.
  /// Throws BugError if r is not a rank of this world.
  /// while_waiting: called again and again while a wait blocks, if set.
  [[nodiscard]] std::unique_ptr<Transport> rank(Rank r, std::function<void()> while_waiting = {});

  class Mail;

 private:
  std::unique_ptr<Mail> mail_;
};

}  // namespace lrq::dist

#include "tests/dist/threads.h"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "dist/thread_transport.h"

namespace lrq::dist {

void run_as_threads(int ranks, std::chrono::milliseconds timeout,
                    const std::function<void(Transport&)>& body) {
  ThreadWorld world(ranks, timeout);
  std::mutex mutex;
  std::exception_ptr first;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const auto transport = world.rank(Rank{rank});
        try {
          body(*transport);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
          transport->abort(1);
        }
      });
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace lrq::dist

#include "tests/dist/threads.h"

#include <thread>
#include <vector>

#include "dist/thread_transport.h"

namespace lrq::dist {

void run_as_threads(int ranks, std::chrono::milliseconds timeout,
                    const std::function<void(Transport&)>& body) {
  ThreadWorld world(ranks, timeout);
  FirstFailure failure;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const auto transport = world.rank(Rank{rank});
        try {
          body(*transport);
        } catch (...) {
          failure.keep_current();
          transport->abort(1);
        }
      });
    }
  }
  failure.rethrow();
}

}  // namespace lrq::dist

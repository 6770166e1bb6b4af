#include "src/base/stop_request.h"

#include <csignal>
#include <cstdio>

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;

void wait_until_asked(const StopRequest& request) {
  for (int i = 0; i < 5000 && !request.asked(); ++i) {
    std::this_thread::sleep_for(milliseconds(1));
  }
}

TEST(StopRequestTest, HearsEitherSignalAndNamesTheFirst) {
  for (const auto& [signal, name] :
       {std::pair{SIGUSR1, "SIGUSR1"}, std::pair{SIGTERM, "SIGTERM"}}) {
    const StopRequest request(minutes(5), [] {});
    EXPECT_FALSE(request.asked());
    EXPECT_EQ(request.signal_name(), "");
    std::raise(signal);
    wait_until_asked(request);
    EXPECT_TRUE(request.asked());
    std::raise(SIGUSR1);
    EXPECT_EQ(request.signal_name(), name);
  }
  std::raise(SIGTERM);  // ends nothing, as the process is about to end anyway
}

TEST(StopRequestTest, GivesTheHandlersBackWhereNothingWasAsked) {
  struct sigaction before = {};
  struct sigaction after = {};
  sigaction(SIGTERM, nullptr, &before);
  {
    const StopRequest request(minutes(5), [] {});
  }
  sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST(StopRequestTest, OneAtATime) {
  const StopRequest request(minutes(5), [] {});
  EXPECT_THROW(StopRequest(minutes(5), [] {}), BugError);
}

TEST(StopRequestDeathTest, EndsAProcessThatTakesTooLong) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto ignores_it = [] {
    const StopRequest request(milliseconds(20), [] { std::fputs("too late", stderr); });
    std::raise(SIGUSR1);
    std::this_thread::sleep_for(minutes(5));
  };
  EXPECT_EXIT(ignores_it(), testing::ExitedWithCode(kExitStopped), "too late");
}

}  // namespace
}  // namespace lrq

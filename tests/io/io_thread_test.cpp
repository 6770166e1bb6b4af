#include "io/io_thread.h"

#include <atomic>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::io {
namespace {

TEST(IoThreadTest, WorksInOrderOnAnotherThread) {
  std::string done;
  std::thread::id where;
  IoThread thread(2);
  for (const char letter : {'a', 'b', 'c', 'd', 'e'}) {
    thread.give([&done, &where, letter] {
      done += letter;
      where = std::this_thread::get_id();
    });
  }
  thread.finish();
  EXPECT_EQ(done, "abcde");
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(IoThreadTest, MoreWorkThanTheLimitWaits) {
  std::atomic<int> begun = 0;
  std::atomic<bool> go_on = false;
  std::atomic<int> given = 0;
  IoThread thread(2);
  const auto work = [&] {
    ++begun;
    while (!go_on) std::this_thread::yield();
  };
  std::thread owner([&] {
    for (int i = 0; i < 3; ++i) {
      thread.give(work);
      ++given;
    }
  });
  while (begun < 1 || given < 2) std::this_thread::yield();
  EXPECT_EQ(given, 2);  // one is under way, one waits: the third is not taken
  go_on = true;
  owner.join();
  thread.finish();
  EXPECT_EQ(begun, 3);
}

TEST(IoThreadTest, AFailureIsToldOnceAndWhatCameBehindItIsDropped) {
  IoThread thread(8);
  std::atomic<bool> go_on = false;
  bool behind = false;
  thread.give([&] {
    while (!go_on) std::this_thread::yield();
    throw DataError({.what = "disk full", .where = "here", .fix = "there"});
  });
  thread.give([&] { behind = true; });
  go_on = true;
  EXPECT_THROW(thread.finish(), DataError);
  EXPECT_NO_THROW(thread.finish());
  EXPECT_FALSE(behind);
  thread.give([&] { behind = true; });
  thread.finish();
  EXPECT_TRUE(behind);
}

}  // namespace
}  // namespace lrq::io

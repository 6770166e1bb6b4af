#include "io/io_thread.h"

#include <atomic>
#include <string>
#include <thread>

#include <ATen/ATen.h>
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

class Squares : public BoundaryReader {
 public:
  [[nodiscard]] at::Tensor read(std::int64_t sample) const override {
    ++reads;
    if (sample == 7) throw DataError({.what = "torn sample", .where = "7", .fix = "resume"});
    return at::full({1, 1, 1}, static_cast<double>(sample * sample));
  }
  mutable std::atomic<int> reads = 0;
};

TEST(ReadAheadTest, ReadsEverySampleOnceInOrder) {
  const Squares squares;
  ReadAhead ahead(
      [&squares, next = std::int64_t{0}]() mutable -> PlannedRead {
        return next == 100 ? PlannedRead{} : PlannedRead{&squares, next++ % 7};
      },
      3);
  for (std::int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(ahead.take({&squares, i % 7}).item<double>(), (i % 7) * (i % 7));
  }
  EXPECT_EQ(squares.reads, 100);
  EXPECT_THROW((void)ahead.take({&squares, 0}), BugError);
}

TEST(ReadAheadTest, ReadsNoFurtherThanItsWindow) {
  const Squares squares;
  std::int64_t planned = 0;
  ReadAhead ahead([&]() -> PlannedRead { return {&squares, planned++ % 3}; }, 4);
  EXPECT_EQ(planned, 4);
  (void)ahead.take({&squares, 0});
  EXPECT_EQ(planned, 5);
}

TEST(ReadAheadTest, AFailureComesWithItsSample) {
  const Squares squares;
  ReadAhead ahead(
      [&squares, next = std::int64_t{5}]() mutable {
        return PlannedRead{&squares, next++};
      },
      4);
  EXPECT_EQ(ahead.take({&squares, 5}).item<double>(), 25);
  EXPECT_EQ(ahead.take({&squares, 6}).item<double>(), 36);
  EXPECT_THROW((void)ahead.take({&squares, 7}), DataError);
  EXPECT_EQ(ahead.take({&squares, 8}).item<double>(), 64);
}

}  // namespace
}  // namespace lrq::io

#include "io/read_ahead.h"

#include <atomic>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::io {
namespace {

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

TEST(ReadAheadTest, PlacesWhoeverReadsASample) {
  const Squares squares;
  std::int64_t planned = 0;
  ReadAhead ahead([&]() -> PlannedRead { return {&squares, planned++ % 7}; }, 2,
                  [](const at::Tensor& sample) { return sample + 1; });
  for (std::int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(ahead.take({&squares, i % 7}).item<double>(), (i % 7) * (i % 7) + 1);
  }
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

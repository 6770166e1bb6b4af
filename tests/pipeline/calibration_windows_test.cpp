#include "src/pipeline/calibration_windows.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::pipeline {
namespace {

using Draws = std::vector<std::int64_t>;

Draws draw(std::uint64_t seed, std::int64_t high, int count) {
  PythonRandom random(seed);
  Draws draws;
  for (int i = 0; i < count; ++i) draws.push_back(random.randint(0, high));
  return draws;
}

// Expected numbers: CPython's random module.
TEST(PythonRandomTest, GivesTheWordsOfPython) {
  PythonRandom random(2);
  EXPECT_EQ(random.next_word(), 4106135923U);
  EXPECT_EQ(random.next_word(), 3707026329U);
  EXPECT_EQ(random.next_word(), 4070888059U);
  EXPECT_EQ(random.next_word(), 3646664648U);
}

TEST(PythonRandomTest, DrawsAsRandintDoes) {
  EXPECT_EQ(draw(2, 999999, 8),
            (Draws{905035, 993869, 890298, 59298, 96033, 88994, 378596, 876084}));
  EXPECT_EQ(draw(2, 2797952, 6), (Draws{237193, 384134, 355978, 1514384, 709188, 1292417}));
  EXPECT_EQ(draw(0, 9999, 6), (Draws{6311, 6890, 663, 4242, 8376, 7961}));
}

TEST(PythonRandomTest, ShufflesAsPythonDoes) {
  Draws order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  PythonRandom random(42);
  for (std::size_t i = 9; i > 0; --i) {
    std::swap(order[i],
              order[static_cast<std::size_t>(random.randint(0, static_cast<std::int64_t>(i)))]);
  }
  EXPECT_EQ(order, (Draws{7, 3, 2, 8, 5, 6, 9, 4, 0, 1}));
}

TEST(WindowStartsTest, StrideAndSeed) {
  EXPECT_EQ(window_starts(100, 3, 10, 20, 2), (Draws{0, 20, 40}));
  // randint(0, 1000000 + 256 - 256 - 1) with seed 2.
  EXPECT_EQ(window_starts(1000256, 2, 256, 0, 2), (Draws{905035, 993869}));
}

TEST(WindowStartsTest, ShortTextIsRefusedWithBothNumbers) {
  EXPECT_NO_THROW((void)window_starts(50, 3, 10, 20, 2));
  try {
    (void)window_starts(49, 3, 10, 20, 2);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_EQ(error.text().what,
              "the calibration text has 49 tokens, and 3 samples of 10 tokens need at least 50");
  }
  EXPECT_THROW((void)window_starts(10, 1, 10, 0, 2), DataError);
}

}  // namespace
}  // namespace lrq::pipeline

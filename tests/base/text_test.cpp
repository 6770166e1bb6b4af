#include "src/base/text.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq {
namespace {

TEST(TextTest, BytesCarryAUnitThatAPersonReads) {
  EXPECT_EQ(format_bytes(7), "7 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(std::uint64_t{3} << 30), "3.0 GiB");
}

TEST(TextTest, SecondsGrowIntoMinutesAndHours) {
  EXPECT_EQ(format_seconds(41.23), "41.2 s");
  EXPECT_EQ(format_seconds(187), "3 min 07 s");
  EXPECT_EQ(format_seconds(7500), "2 h 05 min");
}

TEST(TextTest, NearestWordFindsATypoAndNothingFarAway) {
  EXPECT_EQ(nearest_word("epohcs", {"epochs", "let_lr"}), "epochs");
  EXPECT_EQ(nearest_word("zebra", {"epochs", "let_lr"}), "");
}

TEST(ErrorTest, MessageHasWhatWhereAndFix) {
  const DataError error({.what = "a", .where = "b", .fix = "c"});
  EXPECT_EQ(format_error(error.text(), "lrq-dist: rank 3"),
            "lrq-dist: rank 3: a\n  where: b\n  fix:   c\n");
  EXPECT_EQ(error.exit_code(), 3);
}

}  // namespace
}  // namespace lrq

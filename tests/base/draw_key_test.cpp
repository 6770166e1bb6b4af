#include "src/base/draw_key.h"

#include <gtest/gtest.h>

namespace lrq {
namespace {

TEST(DrawKeyTest, GivesTheSpecificationsKeys) {
  EXPECT_EQ(draw_key(2, {0, 0, 0, 0}), 0x7bd5a964748a48d8U);
  EXPECT_EQ(draw_key(2, {0, 0, 0, 1}), 0xe44005ec9aa4a02cU);
  EXPECT_EQ(draw_key(2, {17, 3, 2, 0}), 0x5ba2b65d1886ca51U);
}

// The first outputs of the generator's own published example, state 1234567.
TEST(DrawKeyTest, StepIsSplitMix64) {
  EXPECT_EQ(splitmix64(1234567U), 6457827717110365317U);
  EXPECT_EQ(splitmix64(1234567U + 0x9e3779b97f4a7c15U), 3203168211198807973U);
}

}  // namespace
}  // namespace lrq

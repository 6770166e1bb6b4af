#include "io/nfc.h"

#include <gtest/gtest.h>

namespace lrq::io {
namespace {

// Rows of the Unicode Character Database's NormalizationTest.txt (columns source and NFC).
TEST(NfcTest, ComposesDecomposesAndReorders) {
  EXPECT_EQ(to_nfc("plain"), "plain");
  EXPECT_EQ(to_nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(to_nfc("\u1E0A\u0323"), "\u1E0C\u0307");
  EXPECT_EQ(to_nfc("D\u0307\u0323"), "\u1E0C\u0307");
  EXPECT_EQ(to_nfc("\u212B"), "\u00C5");        // singleton
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093C");  // left out of composition
  EXPECT_EQ(to_nfc("\u0344"), "\u0308\u0301");  // does not start with a starter
  EXPECT_EQ(to_nfc("\u1100\uAC00\u11A8"), "\u1100\uAC01");
  EXPECT_EQ(to_nfc("a\u0315\u0300\u05AE\u0300b"), "\u00E0\u05AE\u0300\u0315b");
  EXPECT_EQ(to_nfc("\u0061\u0328\u0301"), "\u0105\u0301");
}

TEST(NfcTest, KeepsInvalidBytes) {
  EXPECT_EQ(to_nfc(""), "");
  EXPECT_EQ(to_nfc("\xFF"
                   "e\u0301\xE2\x82"),
            "\xFF\u00E9\xE2\x82");
  EXPECT_EQ(to_nfc("e\x80\u0301"), "e\x80\u0301");
}

}  // namespace
}  // namespace lrq::io

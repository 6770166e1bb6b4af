#include "io/crc32c.h"

#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace lrq::io {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Crc32cTest, MatchesTheVectorsOfTheSpecification) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c(bytes_of("")), 0U);
  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0x00})), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43U);
  std::vector<std::byte> rising(32);
  for (std::size_t i = 0; i < 32; ++i) rising[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc32c(rising), 0x46DD794EU);
}

TEST(Crc32cTest, SeedContinuesTheBytesBefore) {
  EXPECT_EQ(crc32c(bytes_of("56789"), crc32c(bytes_of("1234"))), 0xE3069283U);
}

TEST(Crc32cTest, TableAndInstructionAgreeAtEveryLength) {
  EXPECT_EQ(crc32c_by_table(bytes_of("123456789")), 0xE3069283U);
  std::vector<std::byte> data(67);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 + 11);
  for (std::size_t n = 0; n <= data.size(); ++n) {
    const std::span<const std::byte> part(data.data(), n);
    EXPECT_EQ(crc32c(part, 77), crc32c_by_table(part, 77)) << n << " bytes";
  }
}

}  // namespace
}  // namespace lrq::io

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lrq::io {

/// Compute CRC32C (Castagnoli, reflected polynomial 0x82F63B78, start and final value inverted):
/// the checksum of RFC 3720, appendix B.4.  seed: the CRC of the bytes before these, so that
///   crc32c(b, crc32c(a)) == crc32c(a + b).
/// Uses SSE4.2 where the CPU has it, a table otherwise.  Threads: any.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0);

/// The table's way alone, for the test that compares both.
[[nodiscard]] std::uint32_t crc32c_by_table(std::span<const std::byte> bytes,
                                            std::uint32_t seed = 0);

}  // namespace lrq::io

#pragma once

#include <array>
#include <string>
#include <string_view>

namespace lrq::io {

/// The character that stands for each byte in a byte-level vocabulary: printable bytes for
/// themselves, the others U+0100, U+0101, ... in order.
/// Source: bytes_to_unicode of the published GPT-2 encoder.
[[nodiscard]] const std::array<std::string, 256>& byte_level_characters();

/// Write each byte as its character, and back.  A token with a character that stands for no byte
/// comes back as it is.
[[nodiscard]] std::string to_byte_level(std::string_view bytes);
[[nodiscard]] std::string from_byte_level(std::string_view token);

}  // namespace lrq::io

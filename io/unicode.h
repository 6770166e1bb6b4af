#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace lrq::io {

/// One code point and the number of bytes it takes.
struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;
};

/// Decode the code point at the start of `text`; empty if there is no valid UTF-8 sequence
/// (overlong forms, surrogates and values above U+10FFFF are not valid).
[[nodiscard]] std::optional<CodePoint> decode_utf8(std::string_view text);

/// Append the code point as UTF-8.
void append_utf8(std::string& out, char32_t value);

/// The place of the first byte that is not UTF-8, if any.
[[nodiscard]] std::optional<std::size_t> first_invalid_utf8(std::string_view text);

/// Replace each maximal part of a broken sequence by U+FFFD, as the Unicode standard recommends
/// (chapter 3.9, "Substitution of Maximal Subparts").
[[nodiscard]] std::string replace_invalid_utf8(std::string_view text);

/// True for code points with the Unicode property White_Space.
[[nodiscard]] bool is_white_space(char32_t value);

/// Replace every `from` by `to`.
[[nodiscard]] std::string replace_all(std::string_view text, std::string_view from,
                                      std::string_view to);

}  // namespace lrq::io

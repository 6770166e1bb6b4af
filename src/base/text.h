#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace lrq {

/// Join values by their stream output (std::format is absent in GCC 12).
template <typename... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// "1.5 GiB", "12 KiB", "7 B".
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

/// "41.2 s", "3 min 07 s", "2 h 05 min".
[[nodiscard]] std::string format_seconds(double seconds);

/// The number left-padded with zeros: padded(7, 3) is "007".
[[nodiscard]] std::string padded(std::int64_t number, int width);

/// "a, b, c".
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view separator);

/// A shape or list of numbers as "[2, 3]".
template <typename Range>
[[nodiscard]] std::string format_list(const Range& numbers) {
  std::ostringstream out;
  out << '[';
  bool first = true;
  for (const auto& number : numbers) {
    if (!first) out << ", ";
    out << number;
    first = false;
  }
  out << ']';
  return out.str();
}

/// The candidate nearest to `word` by edit distance, or "" if none is near; for "did you mean".
[[nodiscard]] std::string nearest_word(std::string_view word,
                                       const std::vector<std::string>& candidates);

}  // namespace lrq

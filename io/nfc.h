#pragma once

#include <string>
#include <string_view>

namespace lrq::io {

/// Bring UTF-8 text into Unicode normalization form C (characters composed where they can be).
/// Source: Unicode Standard Annex 15; by libutf8proc.
/// Invalid bytes are kept.  Threads: any.
[[nodiscard]] std::string to_nfc(std::string_view text);

}  // namespace lrq::io

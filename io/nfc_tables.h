#pragma once

#include <cstdint>
#include <span>

namespace lrq::io {

/// A canonical decomposition: `whole` is `first` followed by `second` (0: a single character).
struct NfcPair {
  char32_t whole;
  char32_t first;
  char32_t second;
  bool composes;  ///< false for those that composition leaves out
};

/// The characters first .. last have this canonical combining class, not 0.
struct NfcClassRange {
  char32_t first;
  char32_t last;
  std::uint8_t combining_class;
};

/// Sorted by `whole`; Hangul syllables are left out, as their parts can be computed.
[[nodiscard]] std::span<const NfcPair> nfc_pairs();
/// Sorted by `first`.
[[nodiscard]] std::span<const NfcClassRange> nfc_class_ranges();

}  // namespace lrq::io

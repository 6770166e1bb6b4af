#include "io/nfc.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "io/nfc_tables.h"
#include "io/unicode.h"

namespace lrq::io {
namespace {

// Hangul syllables are computed (Unicode Standard, chapter 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr char32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

// Below this, no character has a decomposition, a combining class or a part in a composition with
// the character before it.
constexpr char32_t kFirstChanging = 0xC0;

std::uint8_t combining_class(char32_t value) {
  const auto ranges = nfc_class_ranges();
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), value,
      [](char32_t code, const NfcClassRange& range) { return code < range.first; });
  if (after == ranges.begin()) return 0;
  const NfcClassRange& range = *(after - 1);
  return value <= range.last ? range.combining_class : std::uint8_t{0};
}

void decompose(char32_t value, std::u32string& out) {
  if (value >= kSyllables && value < kSyllables + kSyllableCount) {
    const char32_t index = value - kSyllables;
    out += kLeads + index / (kVowelCount * kTailCount);
    out += kVowels + index / kTailCount % kVowelCount;
    if (index % kTailCount != 0) out += kTails + index % kTailCount;
    return;
  }
  const auto pairs = nfc_pairs();
  const auto found =
      std::lower_bound(pairs.begin(), pairs.end(), value,
                       [](const NfcPair& pair, char32_t code) { return pair.whole < code; });
  if (found == pairs.end() || found->whole != value) {
    out += value;
    return;
  }
  decompose(found->first, out);
  if (found->second != 0) decompose(found->second, out);
}

std::optional<char32_t> compose_hangul(char32_t first, char32_t second) {
  if (first >= kLeads && first < kLeads + kLeadCount && second >= kVowels &&
      second < kVowels + kVowelCount) {
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  }
  const bool is_open_syllable = first >= kSyllables && first < kSyllables + kSyllableCount &&
                                (first - kSyllables) % kTailCount == 0;
  if (is_open_syllable && second > kTails && second < kTails + kTailCount) {
    return first + (second - kTails);
  }
  return std::nullopt;
}

std::optional<char32_t> compose(char32_t first, char32_t second) {
  static const std::unordered_map<std::uint64_t, char32_t> kComposed = [] {
    std::unordered_map<std::uint64_t, char32_t> out;
    for (const NfcPair& pair : nfc_pairs()) {
      if (pair.composes) out.emplace(std::uint64_t{pair.first} << 32 | pair.second, pair.whole);
    }
    return out;
  }();
  const auto found = kComposed.find(std::uint64_t{first} << 32 | second);
  if (found != kComposed.end()) return found->second;
  return compose_hangul(first, second);
}

/// Sort each run of combining marks by class, equal ones in the order they had.
void reorder(std::u32string& text) {
  for (std::size_t start = 0; start < text.size();) {
    std::size_t end = start;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(start),
                     text.begin() + static_cast<std::ptrdiff_t>(end), [](char32_t a, char32_t b) {
                       return combining_class(a) < combining_class(b);
                     });
    start = end + 1;
  }
}

std::u32string recompose(const std::u32string& text) {
  std::u32string out;
  std::optional<std::size_t> starter;  // place in out of the last character of class 0
  std::uint8_t last_class = 0;
  for (const char32_t value : text) {
    const std::uint8_t own_class = combining_class(value);
    // Blocked if a mark of the same or a higher class stands between the starter and this one.
    const bool adjacent = starter && *starter + 1 == out.size();
    if (starter && (adjacent || (last_class != 0 && last_class < own_class))) {
      if (const auto whole = compose(out[*starter], value)) {
        out[*starter] = *whole;
        continue;
      }
    }
    if (own_class == 0) starter = out.size();
    last_class = own_class;
    out += value;
  }
  return out;
}

/// Normalize a run that holds the character before its first changing one.
void append_run(std::u32string& run, std::string& out) {
  std::u32string parts;
  for (const char32_t value : run) decompose(value, parts);
  reorder(parts);
  for (const char32_t value : recompose(parts)) append_utf8(out, value);
  run.clear();
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::u32string run;
  while (!text.empty()) {
    const auto code = decode_utf8(text);
    // Nothing reaches across a plain character, so the text is worked on in short runs.
    if (!code || code->value < kFirstChanging) append_run(run, out);
    if (code) {
      run += code->value;
      text.remove_prefix(code->bytes);
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  append_run(run, out);
  return out;
}

}  // namespace lrq::io

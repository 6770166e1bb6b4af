#include "io/unicode.h"

#include <array>
#include <utf8proc.h>

namespace lrq::io {
namespace {

unsigned char byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

/// The length that a lead byte announces (0: no lead byte) and the range of the second byte, which
/// is where overlong forms, surrogates and too large values are told apart.
struct Lead {
  std::size_t bytes = 0;
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xBF;
};

Lead lead_of(unsigned char first) {
  if (first < 0x80) return {.bytes = 1};
  if (first < 0xC2) return {.bytes = 0};
  if (first < 0xE0) return {.bytes = 2};
  if (first == 0xE0) return {.bytes = 3, .second_min = 0xA0};
  if (first == 0xED) return {.bytes = 3, .second_max = 0x9F};
  if (first < 0xF0) return {.bytes = 3};
  if (first == 0xF0) return {.bytes = 4, .second_min = 0x90};
  if (first < 0xF4) return {.bytes = 4};
  if (first == 0xF4) return {.bytes = 4, .second_max = 0x8F};
  return {.bytes = 0};
}

/// How many bytes at the start of text belong to one sequence as far as it is valid.
std::size_t valid_prefix(std::string_view text, const Lead& lead) {
  std::size_t i = 1;
  for (; i < lead.bytes && i < text.size(); ++i) {
    const unsigned char byte = byte_at(text, i);
    const unsigned char low = i == 1 ? lead.second_min : 0x80;
    const unsigned char high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) break;
  }
  return i;
}

}  // namespace

std::optional<CodePoint> decode_utf8(std::string_view text) {
  utf8proc_int32_t value = 0;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &value);
  if (bytes <= 0) return std::nullopt;
  return CodePoint{.value = static_cast<char32_t>(value), .bytes = static_cast<std::size_t>(bytes)};
}

void append_utf8(std::string& out, char32_t value) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(value), bytes.data());
  out.append(bytes.begin(), bytes.begin() + count);
}

std::optional<std::size_t> first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto code = decode_utf8(text.substr(at));
    if (!code) return at;
    at += code->bytes;
  }
  return std::nullopt;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Lead lead = lead_of(byte_at(text, 0));
    const std::size_t bytes = lead.bytes == 0 ? 1 : valid_prefix(text, lead);
    if (lead.bytes == bytes) {
      out += text.substr(0, bytes);
    } else {
      append_utf8(out, 0xFFFD);
    }
    text.remove_prefix(bytes);
  }
  return out;
}

bool is_white_space(char32_t value) {
  return (value >= 0x09 && value <= 0x0D) || value == 0x20 || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 ||
         value == 0x2029 || value == 0x202F || value == 0x205F || value == 0x3000;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  while (!from.empty()) {
    const std::size_t found = text.find(from);
    if (found == std::string_view::npos) break;
    out.append(text.substr(0, found)).append(to);
    text.remove_prefix(found + from.size());
  }
  return out.append(text);
}

}  // namespace lrq::io

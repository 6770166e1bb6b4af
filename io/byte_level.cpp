#include "io/byte_level.h"

#include <cstddef>

#include "io/unicode.h"

namespace lrq::io {
namespace {

constexpr char32_t kFirstMoved = 0x100;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> make_code_points() {
  std::array<char32_t, 256> out{};
  char32_t moved = kFirstMoved;
  for (unsigned byte = 0; byte < 256; ++byte) {
    out[byte] = stands_for_itself(byte) ? char32_t{byte} : moved++;
  }
  return out;
}

constexpr std::array<char32_t, 256> kCodePoints = make_code_points();
constexpr std::size_t kLargest = 0x144;  // 68 bytes are moved

constexpr std::array<int, kLargest> make_bytes() {
  std::array<int, kLargest> out{};
  for (int& byte : out) byte = -1;
  for (unsigned byte = 0; byte < 256; ++byte) out[kCodePoints[byte]] = static_cast<int>(byte);
  return out;
}

constexpr std::array<int, kLargest> kBytes = make_bytes();

}  // namespace

const std::array<std::string, 256>& byte_level_characters() {
  static const std::array<std::string, 256> kCharacters = [] {
    std::array<std::string, 256> out;
    for (std::size_t byte = 0; byte < 256; ++byte) append_utf8(out[byte], kCodePoints[byte]);
    return out;
  }();
  return kCharacters;
}

std::string to_byte_level(std::string_view bytes) {
  const auto& characters = byte_level_characters();
  std::string out;
  for (const char byte : bytes) out += characters[static_cast<unsigned char>(byte)];
  return out;
}

std::string from_byte_level(std::string_view token) {
  std::string out;
  std::string_view left = token;
  while (!left.empty()) {
    const auto code = decode_utf8(left);
    if (!code || code->value >= kLargest || kBytes[code->value] < 0) return std::string(token);
    out += static_cast<char>(kBytes[code->value]);
    left.remove_prefix(code->bytes);
  }
  return out;
}

}  // namespace lrq::io

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer_json.h"

namespace lrq::io {

/// Turn tokens back into text, as "decoder" of a tokenizer.json says: ByteLevel, Metaspace,
/// Replace, ByteFallback, Fuse, Strip, and sequences of them.  Threads: any.
class TokenDecoder {
 public:
  /// Tokens joined by spaces.
  TokenDecoder();
  /// Throws UnsupportedTokenizer for another type.
  explicit TokenDecoder(const JsonPart& part);
  ~TokenDecoder();
  TokenDecoder(TokenDecoder&&) noexcept;
  TokenDecoder& operator=(TokenDecoder&&) noexcept;
  TokenDecoder(const TokenDecoder&) = delete;
  TokenDecoder& operator=(const TokenDecoder&) = delete;

  /// Returns UTF-8; bytes that are not become U+FFFD.
  [[nodiscard]] std::string decode(std::vector<std::string> tokens) const;

  class Step;

 private:
  void add(const JsonPart& part);

  std::vector<std::unique_ptr<Step>> steps_;
};

/// The byte that a token of the form <0x0A> stands for, or -1.
[[nodiscard]] int fallback_byte(const std::string& token);
/// The token that stands for a byte: "<0x0A>".
[[nodiscard]] std::string fallback_token(int byte);

}  // namespace lrq::io

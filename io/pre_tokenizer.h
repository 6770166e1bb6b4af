#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer_json.h"

namespace lrq::io {

/// Cut text into the pieces that are encoded one by one, as "pre_tokenizer" of a tokenizer.json
/// says: Digits, Split, ByteLevel, Metaspace, and sequences of them.  Threads: any.
class PreTokenizer {
 public:
  /// One piece: the whole text.
  PreTokenizer();
  /// Throws UnsupportedTokenizer for another type, or for a step after ByteLevel.
  explicit PreTokenizer(const JsonPart& part);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  /// Whether `text` begins the whole input; a Metaspace may put its mark there only.
  enum class Place { kStart, kLater };
  /// The pieces, none of them empty.
  [[nodiscard]] std::vector<std::string> cut(std::string text, Place place) const;

  /// True if pieces are encoded by their bytes, each written as a character (see byte_level.h).
  [[nodiscard]] bool byte_level() const { return byte_level_; }

  class Step;

 private:
  void add(const JsonPart& part);

  std::vector<std::unique_ptr<Step>> steps_;
  bool byte_level_ = false;
};

}  // namespace lrq::io

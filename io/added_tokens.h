#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "io/normalizer.h"
#include "io/tokenizer_json.h"

namespace lrq::io {

/// One entry of "added_tokens".
struct AddedToken {
  std::int32_t id = 0;
  std::string content = {};
  bool lstrip = false;      ///< takes the white space before it
  bool rstrip = false;      ///< takes the white space after it
  bool normalized = false;  ///< looked for in the normalized text, not in the text as given
  bool special = false;     ///< left out of decoded text
};

/// A part of a text: an added token, or text between them.
struct TextSegment {
  std::string_view text;
  const AddedToken* token = nullptr;  ///< null: plain text
};

/// The tokens that are recognised in text before anything else happens to it: the leftmost first,
/// and of those the longest.  Owns: the tokens.  Threads: any.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// tokens: those of the file that are looked for in one form of the text, with `content` in it.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  /// Cut the text at its added tokens; the segments point into `text` and into this object.
  [[nodiscard]] std::vector<TextSegment> cut(std::string_view text) const;

 private:
  [[nodiscard]] const AddedToken* token_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // longest first
  std::array<std::vector<std::size_t>, 256> by_first_byte_;
};

/// Read "added_tokens" of a tokenizer.json.  Throws UnsupportedTokenizer for single_word tokens.
[[nodiscard]] std::vector<AddedToken> read_added_tokens(const JsonPart& file);

}  // namespace lrq::io

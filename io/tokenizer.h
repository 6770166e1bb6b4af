#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lrq::io {

/// Turn text into the model's token ids, and back.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// The ids of the text, with the BOS in front if the model's tokenizer puts one there and
  /// `add_special` is kYes.
  enum class AddSpecial { kYes, kNo };
  [[nodiscard]] virtual std::vector<std::int32_t> encode(std::string_view text,
                                                         AddSpecial add_special) const = 0;
  /// The text of the ids; special tokens and ids that no token stands behind are left out.
  [[nodiscard]] virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
  [[nodiscard]] virtual std::int64_t vocab_size() const = 0;
  /// The id that encode() puts in front, if any.
  [[nodiscard]] virtual std::optional<std::int32_t> bos() const = 0;
};

/// Open the tokenizer of a model folder: tokenizer.json (byte-level BPE, or BPE with byte
/// fallback), else tokenizer.model (SentencePiece).  A tokenizer.json of a kind that we do not read
/// gives way to a tokenizer.model beside it.  Throws DataError with the part of the file that is
/// not supported.
[[nodiscard]] std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& folder);

}  // namespace lrq::io

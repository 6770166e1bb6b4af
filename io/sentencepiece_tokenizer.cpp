#include <array>
#include <cstddef>
#include <fstream>
#include <sentencepiece_processor.h>

#include <nlohmann/json.hpp>

#include "io/tokenizer_formats.h"
#include "src/base/error.h"
#include "src/base/text.h"

// libsentencepiece and LibTorch's libc10 both export a variable of this name, of 32 and of 4 bytes.
// Where only they define it the loader makes one of the two, libc10's, and the larger object is
// constructed over its neighbours: with that LibTorch ends the process where it should throw (no
// memory).  This one is found before both, and large enough.
extern "C" {
// NOLINTBEGIN(readability-identifier-naming): their name
extern std::array<std::byte, 64> FLAGS_minloglevel;
alignas(16) std::array<std::byte, 64> FLAGS_minloglevel{};
// NOLINTEND(readability-identifier-naming)
}

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
using sentencepiece::SentencePieceProcessor;

constexpr const char* kModelFile = "tokenizer.model";
constexpr const char* kConfigFile = "tokenizer_config.json";

void check(const sentencepiece::util::Status& status, const std::string& what,
           const std::string& where, const std::string& fix) {
  if (status.ok()) return;
  throw DataError({.what = concat(what, ": ", status.ToString()), .where = where, .fix = fix});
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const fs::path& file, bool adds_bos) : where_(file.string()) {
    check(processor_.Load(where_), "file is no SentencePiece model", where_,
          "download or copy the file again");
    if (adds_bos && processor_.bos_id() >= 0) bos_ = processor_.bos_id();
  }

  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text,
                                                 AddSpecial add_special) const override {
    std::vector<int> ids;
    check(processor_.Encode({text.data(), text.size()}, &ids), "text cannot be encoded", where_,
          "check that the text is UTF-8");
    if (bos_ && add_special == AddSpecial::kYes) ids.insert(ids.begin(), *bos_);
    return ids;
  }

  [[nodiscard]] std::string decode(const std::vector<std::int32_t>& ids) const override {
    std::vector<int> known;
    for (const std::int32_t id : ids) {
      // A model's padded vocabulary has ids that no piece stands behind.
      if (id >= 0 && id < processor_.GetPieceSize()) known.push_back(id);
    }
    std::string text;
    check(processor_.Decode(known, &text), "ids cannot be decoded", where_,
          "check that the ids were made with this tokenizer");
    return text;
  }

  [[nodiscard]] std::int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  [[nodiscard]] std::optional<std::int32_t> bos() const override { return bos_; }

 private:
  std::string where_;
  SentencePieceProcessor processor_;
  std::optional<std::int32_t> bos_;
};

/// "add_bos_token" of tokenizer_config.json; the class that SentencePiece models have in Hugging
/// Face transformers (LlamaTokenizer) adds one unless told otherwise.
bool adds_bos(const fs::path& folder) {
  const fs::path file = folder / kConfigFile;
  if (!fs::exists(file)) return true;
  std::ifstream in(file, std::ios::binary);
  try {
    const nlohmann::json config = nlohmann::json::parse(in);
    return !config.is_object() || !config.contains("add_bos_token") ||
           config["add_bos_token"] != false;
  } catch (const nlohmann::json::exception& error) {
    throw DataError({.what = concat("file is not JSON: ", error.what()),
                     .where = file.string(),
                     .fix = "download or copy the file again"});
  }
}

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(const fs::path& folder) {
  return std::make_unique<SentencePieceTokenizer>(folder / kModelFile, adds_bos(folder));
}

}  // namespace lrq::io

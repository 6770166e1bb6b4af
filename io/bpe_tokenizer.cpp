#include <array>
#include <fstream>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/added_tokens.h"
#include "io/bpe_merger.h"
#include "io/byte_level.h"
#include "io/normalizer.h"
#include "io/pre_tokenizer.h"
#include "io/token_decoder.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_json.h"
#include "io/unicode.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Vocabulary = std::unordered_map<std::string, std::int32_t>;

constexpr std::int32_t kNoId = -1;

/// "model" of a tokenizer.json: the ids of one piece.
class BpeModel {
 public:
  explicit BpeModel(const JsonPart& part);

  void encode(const std::string& piece, Ids& out) const;
  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  void read_vocabulary(const JsonPart& part);
  void read_merges(const JsonPart& part);
  [[nodiscard]] std::int32_t id_of(const std::string& token) const;
  void append_unknown(std::string_view character, bool& after_unknown, Ids& out) const;

  Vocabulary vocabulary_;
  BpeMerger merger_;
  std::array<std::int32_t, 256> bytes_{};  // ids of <0x00> ..; used with has_bytes_
  bool has_bytes_ = false;
  std::int32_t unknown_ = kNoId;
  bool fuses_unknown_ = false;
  bool ignores_merges_ = false;
};

BpeModel::BpeModel(const JsonPart& part)
    : fuses_unknown_(part.flag("fuse_unk", false)),
      ignores_merges_(part.flag("ignore_merges", false)) {
  // Files before tokenizers 0.9 have no type; only BPE has merges.
  const std::string type = part.text("type", part.has("merges") ? "BPE" : "unknown");
  if (type != "BPE") part.unsupported(concat("model is ", type, ", read is BPE"));
  for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!part.text(field, "").empty()) part.unsupported(concat("model has a ", field));
  }
  if (part.has("dropout") && part.value()["dropout"] != 0.0) {
    part.unsupported("model drops merges at random");
  }
  read_vocabulary(part);
  read_merges(part);
  if (part.has("unk_token")) {
    unknown_ = id_of(part.text("unk_token"));
    if (unknown_ == kNoId) part.broken("\"unk_token\" is not in the vocabulary");
  }
  if (part.flag("byte_fallback", false)) {
    has_bytes_ = true;
    for (int byte = 0; byte < 256; ++byte) {
      bytes_[static_cast<std::size_t>(byte)] = id_of(fallback_token(byte));
      has_bytes_ = has_bytes_ && bytes_[static_cast<std::size_t>(byte)] != kNoId;
    }
    if (!has_bytes_) part.unsupported("byte_fallback without all of <0x00> to <0xFF>");
  }
}

void BpeModel::read_vocabulary(const JsonPart& part) {
  const JsonPart vocabulary = part.object("vocab");
  vocabulary_.reserve(vocabulary.value().size());
  for (const auto& [token, id] : vocabulary.value().items()) {
    vocabulary_.emplace(token, JsonPart::id(id, vocabulary.where()));
  }
  if (vocabulary_.empty()) vocabulary.broken("the vocabulary is empty");
}

void BpeModel::read_merges(const JsonPart& part) {
  const std::string where = concat(part.where(), ", merges");
  if (!part.has("merges") || !part.value()["merges"].is_array()) {
    part.broken("there is no list \"merges\"");
  }
  for (const nlohmann::json& merge : part.value()["merges"]) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const auto text = merge.get<std::string>();
      const std::size_t space = text.find(' ');
      left = text.substr(0, space);
      if (space != std::string::npos) right = text.substr(space + 1);
    }
    if (left.empty() || right.empty()) {
      JsonPart(merge, where).broken(concat("merge is ", merge.dump(), ", not two tokens"));
    }
    const std::array ids = {id_of(left), id_of(right), id_of(left + right)};
    for (const std::int32_t id : ids) {
      if (id != kNoId) continue;
      JsonPart(merge, where)
          .broken(concat("merge ", merge.dump(), " is of tokens that the vocabulary has not"));
    }
    merger_.add(ids[0], ids[1], ids[2]);
  }
}

std::int32_t BpeModel::id_of(const std::string& token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? kNoId : found->second;
}

/// A character that the vocabulary lacks: its bytes, the unknown token, or nothing at all.
void BpeModel::append_unknown(std::string_view character, bool& after_unknown, Ids& out) const {
  if (has_bytes_) {
    for (const char byte : character) out.push_back(bytes_[static_cast<unsigned char>(byte)]);
  } else if (unknown_ != kNoId) {
    if (!after_unknown || !fuses_unknown_) out.push_back(unknown_);
    after_unknown = true;
  }
}

void BpeModel::encode(const std::string& piece, Ids& out) const {
  if (ignores_merges_) {
    if (const std::int32_t whole = id_of(piece); whole != kNoId) {
      out.push_back(whole);
      return;
    }
  }
  Ids symbols;
  bool after_unknown = false;
  for (std::string_view left = piece; !left.empty();) {
    const auto code = decode_utf8(left);
    const std::string_view character = left.substr(0, code ? code->bytes : 1);
    left.remove_prefix(character.size());
    if (const std::int32_t id = id_of(std::string(character)); id != kNoId) {
      symbols.push_back(id);
      after_unknown = false;
    } else {
      append_unknown(character, after_unknown, symbols);
    }
  }
  merger_.merge(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(const JsonPart& file, std::string path);

  [[nodiscard]] Ids encode(std::string_view text, AddSpecial add_special) const override;
  [[nodiscard]] std::string decode(const Ids& ids) const override;
  [[nodiscard]] std::int64_t vocab_size() const override {
    return static_cast<std::int64_t>(tokens_.size());
  }
  [[nodiscard]] std::optional<std::int32_t> bos() const override { return bos_; }

 private:
  /// The ids of pieces seen before; lives for one call of encode().
  using Cache = std::unordered_map<std::string, Ids>;

  void read_tokens(const JsonPart& file);
  void read_post_processor(const JsonPart& part);
  void encode_plain(std::string_view text, PreTokenizer::Place place, Cache& cache, Ids& out) const;
  void encode_piece(const std::string& piece, Cache& cache, Ids& out) const;

  std::string path_;
  BpeModel model_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  TokenDecoder decoder_;
  AddedTokens in_text_;              // looked for in the text as given
  AddedTokens in_normalized_;        // looked for after normalization
  std::vector<std::string> tokens_;  // by id; empty where an id has none
  std::vector<bool> is_special_;     // by id
  std::optional<std::int32_t> bos_;
};

BpeTokenizer::BpeTokenizer(const JsonPart& file, std::string path)
    : path_(std::move(path)), model_(file.object("model")) {
  if (file.has("normalizer")) normalizer_ = Normalizer(file.object("normalizer"));
  if (file.has("pre_tokenizer")) pre_tokenizer_ = PreTokenizer(file.object("pre_tokenizer"));
  if (file.has("decoder")) decoder_ = TokenDecoder(file.object("decoder"));
  if (file.has("post_processor")) read_post_processor(file.object("post_processor"));
  read_tokens(file);
}

void BpeTokenizer::read_tokens(const JsonPart& file) {
  const auto put = [this](std::int32_t id, const std::string& token, bool special) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= tokens_.size()) {
      tokens_.resize(at + 1);
      is_special_.resize(at + 1);
    }
    tokens_[at] = token;
    is_special_[at] = special;
  };
  for (const auto& [token, id] : model_.vocabulary()) put(id, token, /*special=*/false);
  std::vector<AddedToken> as_given, normalized;
  for (AddedToken& token : read_added_tokens(file)) {
    put(token.id, token.content, token.special);
    if (token.normalized) {
      token.content = normalizer_.apply(token.content);
      normalized.push_back(std::move(token));
    } else {
      as_given.push_back(std::move(token));
    }
  }
  in_text_ = AddedTokens(std::move(as_given));
  in_normalized_ = AddedTokens(std::move(normalized));
}

void BpeTokenizer::read_post_processor(const JsonPart& part) {
  const std::string type = part.text("type");
  if (type == "Sequence") {
    for (const JsonPart& each : part.list("processors")) read_post_processor(each);
    return;
  }
  if (type == "ByteLevel") return;  // moves offsets, not ids
  if (type != "TemplateProcessing") {
    part.unsupported(
        concat("post_processor is ", type, ", read are Sequence, ByteLevel, TemplateProcessing"));
  }
  bool after_text = false;
  for (const JsonPart& each : part.list("single")) {
    if (each.has("Sequence")) {
      after_text = true;
      continue;
    }
    const std::string name = each.object("SpecialToken").text("id");
    const JsonPart special = part.object("special_tokens").object(name);
    const nlohmann::json& ids = special.value().value("ids", nlohmann::json());
    if (after_text || bos_ || !ids.is_array() || ids.size() != 1) {
      each.unsupported("template is not one token followed by the text");
    }
    bos_ = JsonPart::id(ids[0], special.where());
  }
}

Ids BpeTokenizer::encode(std::string_view text, AddSpecial add_special) const {
  if (const auto bad = first_invalid_utf8(text)) {
    throw DataError({.what = concat("text is not UTF-8 at byte ", *bad, " of ", text.size()),
                     .where = concat("text for ", path_),
                     .fix = "convert the text, for example with: iconv -f latin1 -t utf8"});
  }
  Ids out;
  Cache cache;
  if (bos_ && add_special == AddSpecial::kYes) out.push_back(*bos_);
  for (const TextSegment& segment : in_text_.cut(text)) {
    if (segment.token != nullptr) {
      out.push_back(segment.token->id);
    } else {
      const bool at_start = segment.text.data() == text.data();
      encode_plain(segment.text,
                   at_start ? PreTokenizer::Place::kStart : PreTokenizer::Place::kLater, cache,
                   out);
    }
  }
  return out;
}

void BpeTokenizer::encode_plain(std::string_view text, PreTokenizer::Place place, Cache& cache,
                                Ids& out) const {
  const std::string normalized = normalizer_.apply(std::string(text));
  for (const TextSegment& segment : in_normalized_.cut(normalized)) {
    if (segment.token != nullptr) {
      out.push_back(segment.token->id);
    } else {
      for (const std::string& piece : pre_tokenizer_.cut(std::string(segment.text), place)) {
        encode_piece(piece, cache, out);
      }
    }
    place = PreTokenizer::Place::kLater;
  }
}

void BpeTokenizer::encode_piece(const std::string& piece, Cache& cache, Ids& out) const {
  constexpr std::size_t kLongestCached = 64;  // longer pieces hardly come twice
  if (piece.size() > kLongestCached) {
    model_.encode(pre_tokenizer_.byte_level() ? to_byte_level(piece) : piece, out);
    return;
  }
  const auto [entry, is_new] = cache.try_emplace(piece);
  if (is_new) {
    model_.encode(pre_tokenizer_.byte_level() ? to_byte_level(piece) : piece, entry->second);
  }
  out.insert(out.end(), entry->second.begin(), entry->second.end());
}

std::string BpeTokenizer::decode(const Ids& ids) const {
  std::vector<std::string> tokens;
  for (const std::int32_t id : ids) {
    const auto at = static_cast<std::size_t>(id);
    // A model's padded vocabulary has ids that no token stands behind.
    if (id < 0 || at >= tokens_.size() || tokens_[at].empty() || is_special_[at]) continue;
    tokens.push_back(tokens_[at]);
  }
  return decoder_.decode(std::move(tokens));
}

}  // namespace

std::unique_ptr<Tokenizer> open_bpe_tokenizer(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(in);
  } catch (const nlohmann::json::exception& error) {
    JsonPart(document, file.string()).broken(concat("file is not JSON: ", error.what()));
  }
  const JsonPart part(document, file.string());
  if (!document.is_object()) part.broken(concat("file is a JSON ", document.type_name()));
  return std::make_unique<BpeTokenizer>(part, file.string());
}

}  // namespace lrq::io

#include "io/added_tokens.h"

#include <algorithm>
#include <utility>

#include "io/unicode.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

/// Where the white space that ends `text` begins.
std::size_t trailing_space_start(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    std::size_t start = end - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0U) == 0x80U) --start;
    const auto code = decode_utf8(text.substr(start));
    if (!code || !is_white_space(code->value)) break;
    end = start;
  }
  return end;
}

/// How many bytes of white space `text` begins with.
std::size_t leading_space_bytes(std::string_view text) {
  std::size_t bytes = 0;
  while (const auto code = decode_utf8(text.substr(bytes))) {
    if (!is_white_space(code->value)) break;
    bytes += code->bytes;
  }
  return bytes;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  });
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    by_first_byte_[static_cast<unsigned char>(tokens_[i].content.front())].push_back(i);
  }
}

const AddedToken* AddedTokens::token_at(std::string_view text) const {
  for (const std::size_t i : by_first_byte_[static_cast<unsigned char>(text.front())]) {
    if (text.starts_with(tokens_[i].content)) return &tokens_[i];
  }
  return nullptr;
}

std::vector<TextSegment> AddedTokens::cut(std::string_view text) const {
  std::vector<TextSegment> segments;
  std::size_t done = 0;
  std::size_t at = 0;
  while (at < text.size() && !tokens_.empty()) {
    const AddedToken* token = token_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t start = at;
    std::size_t end = at + token->content.size();
    if (token->lstrip) start = done + trailing_space_start(text.substr(done, at - done));
    if (token->rstrip) end += leading_space_bytes(text.substr(end));
    if (start > done) segments.push_back({text.substr(done, start - done)});
    segments.push_back({text.substr(start, end - start), token});
    done = at = end;
  }
  if (done < text.size()) segments.push_back({text.substr(done)});
  return segments;
}

std::vector<AddedToken> read_added_tokens(const JsonPart& file) {
  std::vector<AddedToken> tokens;
  if (!file.has("added_tokens")) return tokens;
  for (const JsonPart& part : file.list("added_tokens")) {
    if (!part.has("id")) part.broken("there is no \"id\"");
    AddedToken token{.id = JsonPart::id(part.value()["id"], part.where()),
                     .content = part.text("content"),
                     .lstrip = part.flag("lstrip", false),
                     .rstrip = part.flag("rstrip", false),
                     .normalized = part.flag("normalized", false),
                     .special = part.flag("special", false)};
    if (part.flag("single_word", false)) {
      part.unsupported(concat("token ", token.content, " is recognised as a single word only"));
    }
    if (token.content.empty()) part.broken("\"content\" is empty");
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace lrq::io

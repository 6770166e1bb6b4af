#include "io/token_decoder.h"

#include <string_view>
#include <utility>

#include "io/byte_level.h"
#include "io/unicode.h"
#include "src/base/text.h"

namespace lrq::io {

class TokenDecoder::Step {
 public:
  Step() = default;
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

namespace {

using Tokens = std::vector<std::string>;

constexpr std::string_view kHexDigits = "0123456789ABCDEF";

class ByteLevelStep : public TokenDecoder::Step {
 public:
  void apply(Tokens& tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) bytes += from_byte_level(token);
    tokens = {replace_invalid_utf8(bytes)};
  }
};

class ReplaceStep : public TokenDecoder::Step {
 public:
  ReplaceStep(std::string from, std::string to) : from_(std::move(from)), to_(std::move(to)) {}
  void apply(Tokens& tokens) const override {
    for (std::string& token : tokens) token = replace_all(token, from_, to_);
  }

 private:
  std::string from_, to_;
};

/// Spaces for marks; the one that encoding put in front goes.
class MetaspaceStep : public TokenDecoder::Step {
 public:
  MetaspaceStep(std::string mark, bool drops_first)
      : mark_(std::move(mark)), drops_first_(drops_first) {}
  void apply(Tokens& tokens) const override {
    if (drops_first_ && !tokens.empty() && tokens[0].starts_with(mark_)) {
      tokens[0].erase(0, mark_.size());
    }
    for (std::string& token : tokens) token = replace_all(token, mark_, " ");
  }

 private:
  std::string mark_;
  bool drops_first_;
};

/// Runs of <0xNN> become the text that their bytes are, or one U+FFFD a byte.
class ByteFallbackStep : public TokenDecoder::Step {
 public:
  void apply(Tokens& tokens) const override {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (!first_invalid_utf8(bytes)) {
        if (!bytes.empty()) out.push_back(bytes);
      } else {
        for (std::size_t i = 0; i < bytes.size(); ++i) out.emplace_back("\uFFFD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const int byte = fallback_byte(token); byte >= 0) {
        bytes += static_cast<char>(byte);
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }
};

class FuseStep : public TokenDecoder::Step {
 public:
  void apply(Tokens& tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    tokens = {std::move(all)};
  }
};

/// Take up to `start` copies of a text off the front of each token and up to `stop` off its end.
class StripStep : public TokenDecoder::Step {
 public:
  StripStep(std::string content, int start, int stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void apply(Tokens& tokens) const override {
    for (std::string& token : tokens) {
      for (int i = 0; i < start_ && token.starts_with(content_); ++i) {
        token.erase(0, content_.size());
      }
      for (int i = 0; i < stop_ && token.ends_with(content_); ++i) {
        token.erase(token.size() - content_.size());
      }
    }
  }

 private:
  std::string content_;
  int start_, stop_;
};

int count_of(const JsonPart& part, const char* field) {
  return part.has(field) ? JsonPart::id(part.value()[field], part.where()) : 0;
}

}  // namespace

TokenDecoder::TokenDecoder() = default;
TokenDecoder::TokenDecoder(const JsonPart& part) { add(part); }
TokenDecoder::~TokenDecoder() = default;
TokenDecoder::TokenDecoder(TokenDecoder&&) noexcept = default;
TokenDecoder& TokenDecoder::operator=(TokenDecoder&&) noexcept = default;

void TokenDecoder::add(const JsonPart& part) {
  const std::string type = part.text("type");
  if (type == "Sequence") {
    for (const JsonPart& each : part.list("decoders")) add(each);
  } else if (type == "ByteLevel") {
    steps_.push_back(std::make_unique<ByteLevelStep>());
  } else if (type == "Metaspace") {
    const bool drops_first =
        part.flag("add_prefix_space", true) && part.text("prepend_scheme", "always") != "never";
    steps_.push_back(std::make_unique<MetaspaceStep>(part.text("replacement"), drops_first));
  } else if (type == "Replace") {
    const JsonPart pattern = part.object("pattern");
    if (!pattern.has("String")) pattern.unsupported("decoder replaces by a regular expression");
    steps_.push_back(std::make_unique<ReplaceStep>(pattern.text("String"), part.text("content")));
  } else if (type == "ByteFallback") {
    steps_.push_back(std::make_unique<ByteFallbackStep>());
  } else if (type == "Fuse") {
    steps_.push_back(std::make_unique<FuseStep>());
  } else if (type == "Strip") {
    steps_.push_back(std::make_unique<StripStep>(part.text("content"), count_of(part, "start"),
                                                 count_of(part, "stop")));
  } else {
    part.unsupported(concat("decoder is ", type, ", read are Sequence, ByteLevel, Metaspace, ",
                            "Replace, ByteFallback, Fuse, Strip"));
  }
}

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
  if (steps_.empty()) return join(tokens, " ");
  for (const auto& step : steps_) step->apply(tokens);
  return join(tokens, "");
}

int fallback_byte(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const std::size_t high = kHexDigits.find(token[3]);
  const std::size_t low = kHexDigits.find(token[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high * 16 + low);
}

std::string fallback_token(int byte) {
  const auto value = static_cast<std::size_t>(byte);
  return {'<', '0', 'x', kHexDigits[value / 16], kHexDigits[value % 16], '>'};
}

}  // namespace lrq::io

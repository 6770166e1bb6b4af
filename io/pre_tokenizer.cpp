#include "io/pre_tokenizer.h"

#include <array>
#include <utility>

#include "io/regex.h"
#include "io/unicode.h"
#include "src/base/text.h"

namespace lrq::io {

class PreTokenizer::Step {
 public:
  Step() = default;
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  /// Append the parts of `piece`; `place` says whether it begins the whole input.
  virtual void cut(std::string piece, Place place, std::vector<std::string>& out) const = 0;
};

namespace {

using Place = PreTokenizer::Place;

/// Source: the published GPT-2 encoder.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kRemoved, kIsolated, kContiguous, kMergedWithPrevious, kMergedWithNext };

constexpr std::array<std::pair<std::string_view, Behavior>, 5> kBehaviors = {{
    {"Removed", Behavior::kRemoved},
    {"Isolated", Behavior::kIsolated},
    {"Contiguous", Behavior::kContiguous},
    {"MergedWithPrevious", Behavior::kMergedWithPrevious},
    {"MergedWithNext", Behavior::kMergedWithNext},
}};

/// Whether `part` goes into the piece that `previous` ended.
bool continues(const RegexPart& previous, const RegexPart& part, Behavior behavior) {
  switch (behavior) {
    case Behavior::kContiguous:
      return previous.is_match == part.is_match;
    case Behavior::kMergedWithPrevious:
      return !previous.is_match && part.is_match;
    case Behavior::kMergedWithNext:
      return previous.is_match && !part.is_match;
    case Behavior::kRemoved:
    case Behavior::kIsolated:
      break;
  }
  return false;
}

/// Cut where a pattern matches.
class CutByPattern : public PreTokenizer::Step {
 public:
  CutByPattern(Regex regex, Behavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}

  void cut(std::string piece, Place /*place*/, std::vector<std::string>& out) const override {
    std::vector<RegexPart> parts = regex_.split(piece);
    const RegexPart* previous = nullptr;
    for (RegexPart& part : parts) {
      part.is_match = part.is_match != invert_;
      if (behavior_ == Behavior::kRemoved && part.is_match) continue;
      if (previous != nullptr && continues(*previous, part, behavior_)) {
        out.back().append(part.text);
      } else {
        out.emplace_back(part.text);
      }
      previous = &part;
    }
  }

 private:
  Regex regex_;
  Behavior behavior_;
  bool invert_;
};

/// Put a space in front of a piece that has none (ByteLevel with add_prefix_space).
class PrefixSpace : public PreTokenizer::Step {
 public:
  void cut(std::string piece, Place /*place*/, std::vector<std::string>& out) const override {
    if (piece.front() != ' ') piece.insert(piece.begin(), ' ');
    out.push_back(std::move(piece));
  }
};

/// Write spaces as a mark, put one in front, and cut before each.
class Metaspace : public PreTokenizer::Step {
 public:
  enum class Prepend { kAlways, kFirst, kNever };

  explicit Metaspace(const JsonPart& part)
      : mark_(part.text("replacement")),
        prepend_(prepend_of(part)),
        cuts_(part.flag("split", true)) {
    if (mark_.empty()) part.broken("\"replacement\" is empty");
  }

  void cut(std::string piece, Place place, std::vector<std::string>& out) const override {
    std::string text = replace_all(piece, " ", mark_);
    const bool prepend =
        prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && place == Place::kStart);
    if (prepend && !text.starts_with(mark_)) text.insert(0, mark_);
    std::size_t start = 0;
    while (cuts_ && start < text.size()) {
      const std::size_t next = text.find(mark_, start + 1);
      if (next == std::string::npos) break;
      out.push_back(text.substr(start, next - start));
      start = next;
    }
    out.push_back(text.substr(start));
  }

 private:
  static Prepend prepend_of(const JsonPart& part) {
    // Files before tokenizers 0.16 say add_prefix_space instead.
    const bool prefix = part.flag("add_prefix_space", true);
    const std::string scheme = part.text("prepend_scheme", prefix ? "always" : "never");
    if (scheme == "always") return Prepend::kAlways;
    if (scheme == "first") return Prepend::kFirst;
    if (scheme == "never") return Prepend::kNever;
    part.unsupported(concat("prepend_scheme is ", scheme, ", read are always, first, never"));
  }

  std::string mark_;
  Prepend prepend_;
  bool cuts_;
};

/// The pattern that matches exactly this text.
std::string exact_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = byte >= 0x80 || (byte >= '0' && byte <= '9') ||
                          (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
    if (!is_plain) out += '\\';
    out += c;
  }
  return out;
}

std::unique_ptr<PreTokenizer::Step> make_split(const JsonPart& part) {
  const JsonPart pattern = part.object("pattern");
  Regex regex(pattern.has("Regex") ? pattern.text("Regex") : exact_pattern(pattern.text("String")),
              pattern.where());
  const std::string name = part.text("behavior");
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) {
      return std::make_unique<CutByPattern>(std::move(regex), behavior, part.flag("invert", false));
    }
  }
  part.unsupported(concat("behavior is ", name, ", not one of Split's five"));
}

}  // namespace

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(const JsonPart& part) { add(part); }
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

void PreTokenizer::add(const JsonPart& part) {
  if (byte_level_) part.unsupported("there is a step after ByteLevel");
  const std::string type = part.text("type");
  if (type == "Sequence") {
    for (const JsonPart& each : part.list("pretokenizers")) add(each);
  } else if (type == "Digits") {
    const char* pattern = part.flag("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)";
    steps_.push_back(std::make_unique<CutByPattern>(Regex(pattern, part.where()),
                                                    Behavior::kIsolated, /*invert=*/false));
  } else if (type == "Split") {
    steps_.push_back(make_split(part));
  } else if (type == "ByteLevel") {
    if (part.flag("add_prefix_space", true)) steps_.push_back(std::make_unique<PrefixSpace>());
    if (part.flag("use_regex", true)) {
      steps_.push_back(std::make_unique<CutByPattern>(Regex(kGpt2Pattern, part.where()),
                                                      Behavior::kIsolated, /*invert=*/false));
    }
    byte_level_ = true;
  } else if (type == "Metaspace") {
    steps_.push_back(std::make_unique<Metaspace>(part));
  } else {
    part.unsupported(concat("pre_tokenizer is ", type,
                            ", read are Sequence, Digits, Split, ByteLevel, Metaspace"));
  }
}

std::vector<std::string> PreTokenizer::cut(std::string text, Place place) const {
  std::vector<std::string> pieces;
  if (text.empty()) return pieces;
  pieces.push_back(std::move(text));
  for (const auto& step : steps_) {
    std::vector<std::string> next;
    next.reserve(pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      step->cut(std::move(pieces[i]), i == 0 ? place : Place::kLater, next);
    }
    pieces = std::move(next);
  }
  return pieces;
}

}  // namespace lrq::io

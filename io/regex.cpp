#include "io/regex.h"

#include <array>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

constexpr std::size_t kFirstStackBytes = std::size_t{32} << 10;
constexpr std::size_t kMaxStackBytes = std::size_t{64} << 20;  // for long runs that backtrack

/// What \s and \w stand for in Oniguruma, which the files' patterns are written for, as members of
/// a class.  PCRE2's own take U+180E for a space and leave marks and joiners out of words.
std::string_view members_of(char shorthand) {
  switch (shorthand) {
    case 's':
    case 'S':
      return R"(\t-\r\x{85}\p{Z})";
    case 'w':
    case 'W':
      return R"(\p{L}\p{M}\p{N}\p{Pc})";
    default:
      return {};
  }
}

/// Write \s, \S, \w and \W out.  Negated ones inside of a class stay as they are.
std::string with_shorthands_written_out(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char kind = pattern[++i];
      const bool negated = kind == 'S' || kind == 'W';
      const std::string_view members = members_of(kind);
      if (members.empty() || (in_class && negated)) {
        out.append({c, kind});
      } else if (in_class) {
        out.append(members);
      } else {
        out.append(negated ? "[^" : "[").append(members).append("]");
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string pcre2_message(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Regex::Impl {
  std::unique_ptr<pcre2_code, FreeCode> code;
  std::string pattern;
  std::string where;
};

Regex::Regex(const std::string& pattern, const std::string& where)
    : impl_(std::make_unique<Impl>()) {
  int error = 0;
  PCRE2_SIZE at = 0;
  const std::string written_out = with_shorthands_written_out(pattern);
  impl_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(written_out.data()),
                                  written_out.size(), PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr));
  if (impl_->code == nullptr) {
    throw DataError(
        {.what = concat("pattern is not understood at character ", at, ": ", pcre2_message(error),
                        ": ", pattern),
         .where = where,
         .fix = "use a tokenizer.model beside it, or token ids made by another program"});
  }
  // Without JIT support the interpreter matches the same, only slower.
  pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE);
  impl_->pattern = pattern;
  impl_->where = where;
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::vector<RegexPart> Regex::split(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, FreeMatch> match(
      pcre2_match_data_create_from_pattern(impl_->code.get(), nullptr));
  const std::unique_ptr<pcre2_match_context, FreeContext> context(
      pcre2_match_context_create(nullptr));
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack;  // PCRE2's own 32 KiB do until they do not
  std::vector<RegexPart> parts;
  std::size_t done = 0;   // up to here the text is in parts
  std::size_t start = 0;  // from here the next match is looked for
  while (start < text.size()) {
    int count = pcre2_match(impl_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                            text.size(), start, PCRE2_NO_UTF_CHECK, match.get(), context.get());
    if (count == PCRE2_ERROR_JIT_STACKLIMIT && stack == nullptr) {
      stack.reset(pcre2_jit_stack_create(kFirstStackBytes, kMaxStackBytes, nullptr));
      pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      continue;
    }
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      throw DataError({.what = concat("pattern gave up at byte ", start,
                                      " of the text: ", pcre2_message(count), ": ", impl_->pattern),
                       .where = impl_->where,
                       .fix = "split the text into shorter files"});
    }
    const PCRE2_SIZE* found = pcre2_get_ovector_pointer(match.get());
    if (found[1] == found[0]) {  // an empty match splits nothing; go on behind the next character
      start = found[1] + 1;
      while (start < text.size() && (static_cast<unsigned char>(text[start]) & 0xC0U) == 0x80U) {
        ++start;
      }
      continue;
    }
    if (found[0] > done) parts.push_back({text.substr(done, found[0] - done), false});
    parts.push_back({text.substr(found[0], found[1] - found[0]), true});
    done = start = found[1];
  }
  if (done < text.size()) parts.push_back({text.substr(done), false});
  return parts;
}

}  // namespace lrq::io

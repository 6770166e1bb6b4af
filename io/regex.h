#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lrq::io {

/// A part of a text, and whether the pattern matched there.
struct RegexPart {
  std::string_view text;
  bool is_match = false;
};

/// A Perl-compatible pattern over UTF-8 text; \s is any White_Space, \w any letter, mark, number or
/// connector, as in Oniguruma.
/// Owns: the compiled pattern.  Threads: any.
class Regex {
 public:
  /// Throws DataError (with PCRE2's text, and `where`) if the pattern cannot be compiled.
  Regex(const std::string& pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  /// Cut `text`, which is valid UTF-8, into matches and what lies between; the parts are not empty
  /// and together are the text.  Throws DataError if PCRE2 gives up on it.
  [[nodiscard]] std::vector<RegexPart> split(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lrq::io

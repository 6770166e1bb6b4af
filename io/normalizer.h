#pragma once

#include <string>
#include <vector>

#include "io/tokenizer_json.h"

namespace lrq::io {

/// Change text before it is cut, as "normalizer" of a tokenizer.json says: Prepend, Replace of a
/// fixed string, NFC, and sequences of them.  Threads: any.
class Normalizer {
 public:
  /// No change.
  Normalizer() = default;
  /// Throws UnsupportedTokenizer for another type.
  explicit Normalizer(const JsonPart& part);

  [[nodiscard]] std::string apply(std::string text) const;

 private:
  enum class Kind { kPrepend, kReplace, kNfc };
  struct Step {
    Kind kind = Kind::kNfc;
    std::string from = {};
    std::string to = {};
  };
  void add(const JsonPart& part);

  std::vector<Step> steps_;
};

}  // namespace lrq::io

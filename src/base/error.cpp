#include "src/base/error.h"

#include <utility>

namespace lrq {

Error::Error(ErrorText text, int exit_code)
    : std::runtime_error(text.what), text_(std::move(text)), exit_code_(exit_code) {}

std::string format_error(const ErrorText& text, const std::string& who) {
  std::string out = who + ": " + text.what + "\n";
  if (!text.where.empty()) out += "  where: " + text.where + "\n";
  if (!text.fix.empty()) out += "  fix:   " + text.fix + "\n";
  return out;
}

}  // namespace lrq

#include "src/base/check.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq {

void expect(bool holds, std::string_view message, std::source_location at) {
  if (holds) return;
  throw BugError({.what = concat("broken precondition: ", message),
                  .where = concat(at.file_name(), ":", at.line(), " in ", at.function_name()),
                  .fix = "this is a bug of lrq-dist: please report it with the command line"});
}

}  // namespace lrq

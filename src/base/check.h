#pragma once

#include <source_location>
#include <string_view>

namespace lrq {

/// Require a precondition of our own code; always on.
/// Throws BugError with the source location when `holds` is false.
void expect(bool holds, std::string_view message,
            std::source_location at = std::source_location::current());

}  // namespace lrq

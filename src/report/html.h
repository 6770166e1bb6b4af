#pragma once

#include <string>
#include <string_view>

namespace lrq::report {

/// Text as the content of an element or of an attribute in double quotes, of HTML and of XML:
/// & < > " ' are written as entities, control characters other than line feeds and tabs and bytes
/// that are not UTF-8 as U+FFFD.
[[nodiscard]] std::string escaped(std::string_view text);

/// A number in so many significant digits, and "-" for one that is not finite.
[[nodiscard]] std::string shown(double value, int digits = 4);

/// A number with so many decimals: coordinates, per cent.
[[nodiscard]] std::string fixed(double value, int decimals);

/// 0.0312 is "3.1 %".
[[nodiscard]] std::string percent(double share);

}  // namespace lrq::report

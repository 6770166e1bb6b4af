#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "src/base/text.h"

namespace lrq::cli {

/// A number above 0, or of 0 and more.  CLI11's own print the largest double as the other end.
inline CLI::Validator number_that(bool (*fits)(double), const char* expected, const char* name) {
  return {[=](const std::string& text) -> std::string {
            double value = 0.0;
            if (CLI::detail::lexical_cast(text, value) && fits(value)) return {};
            return concat("found '", text, "', expected ", expected);
          },
          name};
}
inline CLI::Validator positive() {
  return number_that([](double value) { return value > 0.0; }, "a number above 0", "POSITIVE");
}
inline CLI::Validator not_negative() {
  return number_that([](double value) { return value >= 0.0; }, "0 or a number above it",
                     "NONNEGATIVE");
}

}  // namespace lrq::cli

#include "src/export/registry.h"

#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::exporter {
namespace {

constexpr std::array kFormats = {
    Format{"hf", export_hf},
};

}  // namespace

const Format& find_format(std::string_view name) {
  for (const Format& format : kFormats) {
    if (format.name == name) return format;
  }
  throw UsageError({.what = concat("there is no export format '", name, "'"),
                    .where = "option --format",
                    .fix = concat("use one of: ", join(format_names(), ", "))});
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const Format& format : kFormats) names.emplace_back(format.name);
  return names;
}

}  // namespace lrq::exporter

#include "launch/parsed_values.h"

#include <algorithm>
#include <map>

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::cli {

double bytes_of(const std::string& text, const std::string& where) {
  static const std::map<std::string, double> kUnits = {
      {"", 1.0},   {"B", 1.0},  {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0},
      {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},        {"TB", 1e12}};
  std::size_t used = 0;
  double value = -1.0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    value = -1.0;  // told below
  }
  const auto unit = kUnits.find(text.substr(std::min(used, text.size())));
  if (!(value > 0.0) || unit == kUnits.end()) {
    throw UsageError({.what = concat("'", text, "' is not a size"),
                      .where = where,
                      .fix = "write it as 80GiB, 80GB or 512MiB"});
  }
  return value * unit->second;
}

pipeline::Targets targets_of(const std::string& name) {
  for (const auto targets :
       {pipeline::Targets::kDisk, pipeline::Targets::kMemory, pipeline::Targets::kRecompute}) {
    if (pipeline::targets_name(targets) == name) return targets;
  }
  expect(false, concat("'", name, "' names no place of targets"));
  return {};
}

}  // namespace lrq::cli

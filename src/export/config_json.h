#pragma once

#include <optional>
#include <set>
#include <string>

#include <ATen/core/Tensor.h>

namespace lrq::exporter {

/// "float32", "float16", "bfloat16": as config.json and --dtype spell it.
[[nodiscard]] std::string dtype_name(at::ScalarType dtype);

/// What differs between the source's config.json and the exported one.
struct ConfigChanges {
  std::optional<at::ScalarType> dtype;  ///< of the weights, where it was asked for
  int blocks = 0;                       ///< the run's
  std::set<std::string> keys_on;        ///< to be set to true
};

/// The source's config.json with these changes and no others: keys keep their order and values.
/// Throws DataError if the text is no JSON object.
[[nodiscard]] std::string exported_config(const std::string& source, const ConfigChanges& changes,
                                          const std::string& where);

}  // namespace lrq::exporter

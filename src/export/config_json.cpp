#include "src/export/config_json.h"

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::exporter {

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    default:
      throw BugError({.what = concat("a model is not exported in dtype ", at::toString(dtype))});
  }
}

std::string exported_config(const std::string& source, const ConfigChanges& changes,
                            const std::string& where) {
  auto config = nlohmann::ordered_json::parse(source, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    throw DataError({.what = "config.json is not a JSON object",
                     .where = where,
                     .fix = "compare the file with the model's page, or fetch it again"});
  }
  if (changes.dtype) {
    // "dtype" is the newer name; both are read, and a folder that has both must not contradict
    // itself.
    const bool newer = config.contains("dtype");
    if (newer) config["dtype"] = dtype_name(*changes.dtype);
    if (!newer || config.contains("torch_dtype")) {
      config["torch_dtype"] = dtype_name(*changes.dtype);
    }
  }
  config["num_hidden_layers"] = changes.blocks;
  const auto kinds = config.find("layer_types");  // one entry a block
  if (kinds != config.end() && kinds->is_array()) {
    while (kinds->size() > static_cast<std::size_t>(changes.blocks)) {
      kinds->erase(kinds->size() - 1);
    }
  }
  for (const std::string& key : changes.keys_on) config[key] = true;
  return config.dump(2) + "\n";
}

}  // namespace lrq::exporter

#include "src/models/registry.h"

#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::models {
namespace {

struct Line {
  std::string_view model_type;
  std::string_view architecture;
  std::unique_ptr<Family> (*make)(const ModelConfig&);
};

constexpr std::array kFamilies = {
    Line{"llama", "LlamaForCausalLM", make_llama},
};

}  // namespace

std::unique_ptr<Family> make_family(const ModelConfig& config) {
  for (const Line& line : kFamilies) {
    if (line.model_type == config.model_type) return line.make(config);
  }
  throw DataError({.what = concat("no family for model_type \"", config.model_type,
                                  "\"; supported: ", join(family_names(), ", ")),
                   .where = "config.json, model_type",
                   .fix = "name a model of a supported family with --model"});
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Line& line : kFamilies) names.emplace_back(line.model_type);
  return names;
}

std::optional<std::string> family_of_architecture(std::string_view architecture) {
  for (const Line& line : kFamilies) {
    if (line.architecture == architecture) return std::string(line.model_type);
  }
  return std::nullopt;
}

}  // namespace lrq::models

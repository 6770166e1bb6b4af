#include "src/models/registry.h"

#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::models {
namespace {

const auto& families() {
  static const std::array kFamilies = {
      llama_family(),  //
      mistral_family(), opt_family(), qwen2_family(), qwen3_family(),
  };
  return kFamilies;
}

}  // namespace

std::unique_ptr<Family> make_family(const ModelConfig& config) {
  const FamilyEntry* family = family_of_type(config.model_type);
  if (family != nullptr) return family->make(config);
  throw DataError({.what = concat("no family for model_type \"", config.model_type,
                                  "\"; supported: ", join(family_names(), ", ")),
                   .where = "config.json, model_type",
                   .fix = "name a model of a supported family with --model"});
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const FamilyEntry& family : families()) names.emplace_back(family.model_type);
  return names;
}

const FamilyEntry* family_of_type(std::string_view model_type) {
  for (const FamilyEntry& family : families()) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

const FamilyEntry* family_of_architecture(std::string_view architecture) {
  for (const FamilyEntry& family : families()) {
    if (family.architecture == architecture) return &family;
  }
  return nullptr;
}

}  // namespace lrq::models

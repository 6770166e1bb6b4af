#pragma once

#include <memory>
#include <string_view>

#include "src/models/family.h"

namespace lrq::models {

class ConfigFields;

/// One family as config.json names it, and how it is made.
struct FamilyEntry {
  std::string_view model_type;    ///< "llama"
  std::string_view architecture;  ///< "LlamaForCausalLM": asked for an unknown model type
  /// Read what the family needs beyond model type, sizes, heads, vocabulary and positions, with the
  /// defaults of Hugging Face.  Throws DataError naming the field.
  void (*read)(const ConfigFields& fields, ModelConfig& config);
  std::unique_ptr<Family> (*make)(const ModelConfig& config);
};

/// The families, one file each; the table over them is in registry.cpp.
[[nodiscard]] FamilyEntry llama_family();
[[nodiscard]] FamilyEntry mistral_family();
[[nodiscard]] FamilyEntry opt_family();
[[nodiscard]] FamilyEntry qwen2_family();
[[nodiscard]] FamilyEntry qwen3_family();

/// The family that config.json names as "model_type", or lists under "architectures"; nullptr if
/// there is none of that name.
[[nodiscard]] const FamilyEntry* family_of_type(std::string_view model_type);
[[nodiscard]] const FamilyEntry* family_of_architecture(std::string_view architecture);

}  // namespace lrq::models

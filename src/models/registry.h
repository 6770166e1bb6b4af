#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "src/models/family.h"

namespace lrq::models {

/// The families, one function each; the table over them is in registry.cpp.
[[nodiscard]] std::unique_ptr<Family> make_llama(const ModelConfig& config);

/// The family of a name that config.json lists under "architectures" ("LlamaForCausalLM"), if
/// known.
[[nodiscard]] std::optional<std::string> family_of_architecture(std::string_view architecture);

}  // namespace lrq::models

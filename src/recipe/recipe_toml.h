#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/recipe/recipe.h"

namespace lrq::recipe {

/// Give the TOML text of the recipe with that name; nullopt if there is none.
using RecipeLookup = std::function<std::optional<std::string>(const std::string& name)>;

/// Read a recipe, first its `base` (by name, through lookup), then what it says itself.
/// text: TOML; where: path or name, for messages.  Unknown table or key = UsageError with the
/// nearest known name and the line.  Not validated: options may still change it.
[[nodiscard]] Recipe parse_recipe(std::string_view text, const std::string& where,
                                  const RecipeLookup& lookup);

/// Set one field from the command line: "train.wave=4".  Throws UsageError.
void set_field(Recipe& recipe, const std::string& assignment);

/// The merged recipe as TOML that parse_recipe reads back to the same value.
[[nodiscard]] std::string to_toml(const Recipe& recipe);

}  // namespace lrq::recipe

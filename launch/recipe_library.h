#pragma once

#include <string>
#include <vector>

#include "src/recipe/recipe.h"

namespace lrq::cli {

/// A file of launch/recipes, as it was when the program was built.
struct EmbeddedRecipe {
  std::string name;
  std::string text;
};
[[nodiscard]] const std::vector<EmbeddedRecipe>& embedded_recipes();

/// The recipe that --recipe names: one of ours, or a TOML file (a path with a '/' or ".toml").
/// Throws UsageError with the nearest name.
[[nodiscard]] recipe::Recipe find_recipe(const std::string& name_or_file);

}  // namespace lrq::cli

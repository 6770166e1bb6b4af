#pragma once

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "src/recipe/recipe_toml.h"

namespace lrq::pipeline {

inline std::optional<std::string> shipped_recipe_text(const std::string& name) {
  std::ifstream file(std::filesystem::path(LRQ_RECIPES) / (name + ".toml"));
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A recipe that is shipped, with changes that make it fit a small model.
inline recipe::Recipe shipped_recipe(const std::string& name,
                                     const std::vector<std::string>& changes) {
  recipe::Recipe recipe =
      recipe::parse_recipe(shipped_recipe_text(name).value(), name + ".toml", shipped_recipe_text);
  for (const std::string& change : changes) recipe::set_field(recipe, change);
  recipe::validate(recipe);
  return recipe;
}

}  // namespace lrq::pipeline

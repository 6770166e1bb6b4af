#include "launch/recipe_library.h"

#include <filesystem>
#include <optional>

#include "io/file_system.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::cli {
namespace {

std::optional<std::string> embedded_text(const std::string& name) {
  for (const EmbeddedRecipe& recipe : embedded_recipes()) {
    if (recipe.name == name) return recipe.text;
  }
  return std::nullopt;
}

}  // namespace

recipe::Recipe find_recipe(const std::string& name_or_file) {
  const bool is_file = name_or_file.find('/') != std::string::npos ||
                       std::filesystem::path(name_or_file).extension() == ".toml";
  if (is_file) {
    const auto files = io::make_posix_file_system();
    recipe::Recipe recipe =
        recipe::parse_recipe(files->read(name_or_file), name_or_file, embedded_text);
    recipe.name = std::filesystem::path(name_or_file).stem().string();
    return recipe;
  }
  if (const auto text = embedded_text(name_or_file)) {
    recipe::Recipe recipe = recipe::parse_recipe(*text, name_or_file, embedded_text);
    recipe.name = name_or_file;
    return recipe;
  }
  std::vector<std::string> names;
  for (const EmbeddedRecipe& recipe : embedded_recipes()) names.push_back(recipe.name);
  const std::string nearest = nearest_word(name_or_file, names);
  throw UsageError(
      {.what = concat("there is no recipe '", name_or_file, "'",
                      nearest.empty() ? "" : concat("; did you mean '", nearest, "'?")),
       .where = "option --recipe",
       .fix = "see lrq-dist recipe list, or name a .toml file"});
}

}  // namespace lrq::cli

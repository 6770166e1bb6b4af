#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>

#include "launch/commands.h"
#include "launch/recipe_library.h"
#include "src/base/text.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::cli {
namespace {

/// The text of a recipe file's `description = "..."` line.
std::string description_of(const std::string& text) {
  static constexpr std::string_view kKey = "description = \"";
  const std::size_t begin = text.find(kKey);
  if (begin == std::string::npos) return {};
  const std::size_t end = text.find('"', begin + kKey.size());
  return text.substr(begin + kKey.size(), end - begin - kKey.size());
}

void list_recipes() {
  for (const EmbeddedRecipe& recipe : embedded_recipes()) {
    std::printf("%-18s %s\n", recipe.name.c_str(), description_of(recipe.text).c_str());
  }
}

}  // namespace

void add_recipe_command(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("recipe", "List the recipes, or show one as merged");
  command->require_subcommand(1);
  command->add_subcommand("list", "Names and what they are")->callback([&chosen] {
    chosen.local = list_recipes;
  });
  CLI::App* show = command->add_subcommand("show", "The merged recipe as TOML");
  auto options = std::make_shared<RecipeOptions>();
  show->add_option("name", options->recipe, "recipe name or TOML file")->required();
  add_recipe_options(*show, *options);
  show->remove_option(show->get_option("--recipe"));
  show->callback([options, &chosen] {
    chosen.local = [options] {
      std::fputs(recipe::to_toml(merged_recipe(*options)).c_str(), stdout);
    };
  });
}

}  // namespace lrq::cli

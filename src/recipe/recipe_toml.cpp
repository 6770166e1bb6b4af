#include "src/recipe/recipe_toml.h"

#include <algorithm>

#include <toml++/toml.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/recipe/field_table.h"

namespace lrq::recipe {
namespace {

std::string table_of(const std::string& name) { return name.substr(0, name.find('.')); }

std::vector<std::string> table_names() {
  std::vector<std::string> names;
  for (const Field& field : field_table()) {
    const std::string table = table_of(field.name);
    if (names.empty() || names.back() != table) names.push_back(table);
  }
  return names;
}

const Field* find_field(const std::string& name) {
  const auto& table = field_table();
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Field& field) { return field.name == name; });
  return found == table.end() ? nullptr : &*found;
}

/// The field of that key in any table ("train.wave" for "loss.wave" or "wave"), or "".
std::string same_key_elsewhere(const std::string& name) {
  const std::string key = name.substr(name.find('.') + 1);
  for (const Field& field : field_table()) {
    if (field.name.substr(field.name.find('.') + 1) == key) return field.name;
  }
  return {};
}

std::string nearest_field(const std::string& name) {
  std::string elsewhere = same_key_elsewhere(name);
  if (!elsewhere.empty()) return elsewhere;
  std::vector<std::string> names;
  for (const Field& field : field_table()) names.push_back(field.name);
  return nearest_word(name, names);
}

std::string suggestion(const std::string& nearest) {
  return nearest.empty() ? "'lrq-dist recipe show lrquant' prints every field"
                         : concat("did you mean ", nearest, "?");
}

UsageError unknown(const std::string& kind, const std::string& name, const std::string& where,
                   const std::string& nearest) {
  return UsageError({.what = concat("unknown recipe ", kind, " '", name, "'"),
                     .where = where,
                     .fix = suggestion(nearest)});
}

/// The scalar in a node; nullopt for an array, a table, a date or a time.
std::optional<Value> scalar(const toml::node& node) {
  if (const auto* flag = node.as_boolean()) return Value(flag->get());
  if (const auto* whole = node.as_integer()) return Value(whole->get());
  if (const auto* number = node.as_floating_point()) return Value(number->get());
  if (const auto* text = node.as_string()) return Value(text->get());
  return std::nullopt;
}

std::string kind_of(const toml::node& node) {
  return concat("a value of the TOML type ", node.type());
}

void assign(Recipe& recipe, const Field& field, const std::optional<Value>& value,
            const std::string& found_kind, const std::string& where) {
  if (value && field.set(recipe, *value)) return;
  throw UsageError({.what = concat(field.name, " is ",
                                   value ? concat(value_text(*value), " (", value_kind(*value), ")")
                                         : found_kind,
                                   ", expected ", field.expects),
                    .where = where,
                    .fix = concat("write ", field.name, " as ", field.expects)});
}

std::string at_line(const std::string& where, const toml::source_region& region) {
  return concat(where, ", line ", region.begin.line);
}

toml::table parse_toml(std::string_view text, const std::string& where) {
  try {
    return toml::parse(text, where);
  } catch (const toml::parse_error& error) {
    throw UsageError({.what = concat("not readable as TOML: ", error.description()),
                      .where = at_line(where, error.source()),
                      .fix = "correct that line"});
  }
}

void read_table(Recipe& recipe, const std::string& table_name, const toml::table& table,
                const std::string& where) {
  for (const auto& [key, node] : table) {
    const std::string name = concat(table_name, ".", key.str());
    const std::string line = at_line(where, key.source());
    const Field* field = find_field(name);
    if (field == nullptr) throw unknown("key", name, line, nearest_field(name));
    assign(recipe, *field, scalar(node), kind_of(node), line);
  }
}

std::string top_level_string(const toml::table& document, std::string_view key,
                             const std::string& where) {
  const toml::node* node = document.get(key);
  if (node == nullptr) return {};
  if (const auto* text = node->as_string()) return text->get();
  throw UsageError({.what = concat(key, " is ", kind_of(*node), ", expected a string"),
                    .where = at_line(where, node->source()),
                    .fix = concat("write ", key, " = \"...\"")});
}

void read_document(Recipe& recipe, const toml::table& document, const std::string& where) {
  const std::vector<std::string> tables = table_names();
  for (const auto& [key, node] : document) {
    const std::string name(key.str());
    if (name == "base" || name == "description") continue;  // read by the caller, or for people
    const std::string line = at_line(where, key.source());
    if (std::find(tables.begin(), tables.end(), name) == tables.end()) {
      std::vector<std::string> known = tables;
      known.insert(known.end(), {"base", "description"});
      const std::string lost_its_table = same_key_elsewhere(name);
      const std::string nearest =
          lost_its_table.empty() ? nearest_word(name, known) : lost_its_table;
      throw unknown(node.is_table() ? "table" : "top-level key", name, line, nearest);
    }
    const auto* table = node.as_table();
    if (table == nullptr) {
      throw UsageError({.what = concat(name, " is ", kind_of(node), ", expected a table"),
                        .where = line,
                        .fix = concat("write [", name, "] or ", name, " = { ... }")});
    }
    read_table(recipe, name, *table, where);
  }
}

/// chain: the recipes that led here, outermost first.
Recipe parse_chain(std::string_view text, const std::string& where, const RecipeLookup& lookup,
                   std::vector<std::string>& chain) {
  const toml::table document = parse_toml(text, where);
  top_level_string(document, "description", where);
  const std::string base = top_level_string(document, "base", where);
  Recipe recipe;
  if (document.contains("base")) {
    const std::string line = at_line(where, document.get("base")->source());
    if (std::find(chain.begin(), chain.end(), base) != chain.end()) {
      throw UsageError(
          {.what = concat("the recipe is its own base: ", join(chain, " -> "), " -> ", base),
           .where = line,
           .fix = "let one of them stand without a base"});
    }
    const std::optional<std::string> base_text = lookup(base);
    if (!base_text) {
      throw UsageError({.what = concat("no recipe has the name '", base, "'"),
                        .where = line,
                        .fix = "'lrq-dist recipe list' prints the names"});
    }
    chain.push_back(base);
    recipe = parse_chain(*base_text, concat("recipe ", base), lookup, chain);
  }
  read_document(recipe, document, where);
  return recipe;
}

/// A command line's value: TOML where it is TOML, else a bare word (smoothing.start=lae).
Value command_line_value(const std::string& text) {
  const bool one_line = text.find_first_of("\r\n") == std::string::npos;
  try {
    const toml::table parsed = toml::parse(one_line ? concat("value = ", text) : std::string());
    const toml::node* node = parsed.get("value");
    if (node != nullptr && scalar(*node)) return *scalar(*node);
  } catch (const toml::parse_error&) {
    // not TOML: the word itself is the value
  }
  return text;
}

}  // namespace

Recipe parse_recipe(std::string_view text, const std::string& where, const RecipeLookup& lookup) {
  const std::string name = std::filesystem::path(where).stem().string();
  std::vector<std::string> chain = {name};
  Recipe recipe = parse_chain(text, where, lookup, chain);
  recipe.name = name;
  return recipe;
}

void set_field(Recipe& recipe, const std::string& assignment) {
  const std::string where = concat("option --set ", assignment);
  const auto equals = assignment.find('=');
  if (equals == std::string::npos) {
    throw UsageError({.what = concat("no '=' in '", assignment, "', expected table.field=value"),
                      .where = where,
                      .fix = "for example --set train.wave=4"});
  }
  const std::string name = assignment.substr(0, equals);
  const Field* field = find_field(name);
  if (field == nullptr) throw unknown("field", name, where, nearest_field(name));
  assign(recipe, *field, command_line_value(assignment.substr(equals + 1)), {}, where);
}

std::string to_toml(const Recipe& recipe) {
  std::string out = recipe.name.empty() ? std::string() : concat("# recipe ", recipe.name, "\n");
  std::string table;
  for (const auto& [name, text] : fields(recipe)) {
    if (table_of(name) != table) {
      table = table_of(name);
      out += concat(out.empty() ? "" : "\n", "[", table, "]\n");
    }
    out += concat(name.substr(table.size() + 1), " = ", text, "\n");
  }
  return out;
}

}  // namespace lrq::recipe

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "src/recipe/recipe.h"

namespace lrq::recipe {

/// A value as a TOML file or the command line gives it.
using Value = std::variant<bool, std::int64_t, double, std::string>;

/// The value as TOML writes it: `true`, `4`, `0.001`, `"lae"`; a double always reads back as one.
[[nodiscard]] std::string value_text(const Value& value);

/// What kind of value it is, for messages: "an integer", "a string", ...
[[nodiscard]] std::string value_kind(const Value& value);

/// One field of a recipe: what reads, writes, sets and checks it by name.
struct Field {
  std::string name;     ///< "train.wave"
  std::string expects;  ///< "an integer", "one of lae, smoothquant, ones"
  std::function<Value(const Recipe&)> get;
  std::function<bool(Recipe&, const Value&)> set;  ///< false: the value is not what it expects
};

/// Every field, in the order of the struct.  A new field of Recipe is one line here.
/// Threads: any.
[[nodiscard]] const std::vector<Field>& field_table();

}  // namespace lrq::recipe

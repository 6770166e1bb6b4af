#include "src/models/config_fields.h"

#include <cmath>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::models {

using Json = nlohmann::json;

ConfigFields::ConfigFields(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {}

const Json* ConfigFields::find(const std::string& name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigFields::is_null(const std::string& name) const {
  const auto found = object_.find(name);
  return found != object_.end() && found->is_null();
}

std::int64_t ConfigFields::count(const std::string& name) const {
  const Json* field = find(name);
  if (field == nullptr) fail(concat("no field ", name, ", expected a whole number above 0"));
  return checked_count(name, *field);
}

std::int64_t ConfigFields::count_or(const std::string& name, std::int64_t otherwise) const {
  const Json* field = find(name);
  return field == nullptr ? otherwise : checked_count(name, *field);
}

double ConfigFields::positive(const std::string& name) const {
  const Json* field = find(name);
  if (field == nullptr) fail(concat("no field ", name, ", expected a number above 0"));
  return checked_positive(name, *field);
}

double ConfigFields::positive_or(const std::string& name, double otherwise) const {
  const Json* field = find(name);
  return field == nullptr ? otherwise : checked_positive(name, *field);
}

bool ConfigFields::flag_or(const std::string& name, bool otherwise) const {
  const Json* field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_boolean()) wrong(name, *field, "true or false");
  return field->get<bool>();
}

std::string ConfigFields::text_or(const std::string& name, const std::string& otherwise) const {
  const Json* field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_string()) wrong(name, *field, "a text");
  return field->get<std::string>();
}

void ConfigFields::only_flag(const std::string& name, bool supported) const {
  if (flag_or(name, supported) == supported) return;
  throw DataError({.what = concat(name, " is ", supported ? "false" : "true", ", only ",
                                  supported ? "true" : "false", " is supported"),
                   .where = where_,
                   .fix = "name a model without it with --model"});
}

void ConfigFields::only_text(const std::string& name, const std::string& supported) const {
  const std::string found = text_or(name, supported);
  if (found == supported) return;
  throw DataError(
      {.what = concat(name, " is \"", found, "\", only \"", supported, "\" is supported"),
       .where = where_,
       .fix = concat("name a model with ", name, " \"", supported, "\" with --model")});
}

void ConfigFields::wrong(const std::string& name, const Json& found,
                         std::string_view expected) const {
  fail(concat(name, " is ", found.dump(), ", expected ", expected));
}

void ConfigFields::fail(const std::string& what) const {
  throw DataError({.what = what,
                   .where = where_,
                   .fix = "compare the file with the model's page, or fetch it again"});
}

std::int64_t ConfigFields::checked_count(const std::string& name, const Json& field) const {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
  if (!field.is_number_integer() || (field.is_number_unsigned() ? field.get<std::uint64_t>() == 0
                                                                : field.get<std::int64_t>() <= 0)) {
    wrong(name, field, "a whole number above 0");
  }
  if (field.get<std::uint64_t>() > static_cast<std::uint64_t>(kLargest)) {
    wrong(name, field, concat("at most ", kLargest));
  }
  return field.get<std::int64_t>();
}

double ConfigFields::checked_positive(const std::string& name, const Json& field) const {
  if (!field.is_number()) wrong(name, field, "a number above 0");
  const double value = field.get<double>();
  if (!(value > 0.0) || !std::isfinite(value)) wrong(name, field, "a number above 0");
  return value;
}

}  // namespace lrq::models

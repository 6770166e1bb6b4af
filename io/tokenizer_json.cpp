#include "io/tokenizer_json.h"

#include "src/base/text.h"

namespace lrq::io {
namespace {

constexpr std::int64_t kMaxId = 1 << 24;  // real vocabularies stay below 2^19

[[noreturn]] void refuse_broken(const std::string& what, const std::string& where) {
  throw DataError({.what = what, .where = where, .fix = "download or copy the file again"});
}

}  // namespace

bool JsonPart::has(const std::string& name) const {
  const auto found = value_->find(name);
  return found != value_->end() && !found->is_null();
}

const nlohmann::json& JsonPart::field(const std::string& name) const {
  if (!has(name)) broken(concat("there is no \"", name, "\""));
  return *value_->find(name);
}

JsonPart JsonPart::object(const std::string& name) const {
  const nlohmann::json& found = field(name);
  if (!found.is_object()) {
    broken(concat("\"", name, "\" is a ", found.type_name(), ", not an object"));
  }
  return {found, concat(where_, ", ", name)};
}

std::vector<JsonPart> JsonPart::list(const std::string& name) const {
  const nlohmann::json& found = field(name);
  if (!found.is_array()) broken(concat("\"", name, "\" is a ", found.type_name(), ", not a list"));
  std::vector<JsonPart> parts;
  for (const nlohmann::json& entry : found) {
    const JsonPart part(entry, concat(where_, ", ", name, "[", parts.size(), "]"));
    if (!entry.is_object()) part.broken(concat("this is a ", entry.type_name(), ", not an object"));
    parts.push_back(part);
  }
  return parts;
}

std::string JsonPart::text(const std::string& name) const {
  const nlohmann::json& found = field(name);
  if (!found.is_string()) broken(concat("\"", name, "\" is a ", found.type_name(), ", not a text"));
  return found.get<std::string>();
}

std::string JsonPart::text(const std::string& name, const std::string& otherwise) const {
  return has(name) ? text(name) : otherwise;
}

bool JsonPart::flag(const std::string& name, bool otherwise) const {
  if (!has(name)) return otherwise;
  const nlohmann::json& found = field(name);
  if (!found.is_boolean()) {
    broken(concat("\"", name, "\" is a ", found.type_name(), ", not true or false"));
  }
  return found.get<bool>();
}

std::int32_t JsonPart::id(const nlohmann::json& value, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kMaxId) {
    refuse_broken(
        concat("token id is ", value.dump(), ", not a whole number from 0 to ", kMaxId - 1), where);
  }
  return value.get<std::int32_t>();
}

void JsonPart::unsupported(const std::string& what) const {
  throw UnsupportedTokenizer(
      {.what = what,
       .where = where_,
       .fix = "put a tokenizer.model beside it, or pass token ids (.h5, .npy, .bin) made with "
              "another program"});
}

void JsonPart::broken(const std::string& what) const { refuse_broken(what, where_); }

}  // namespace lrq::io

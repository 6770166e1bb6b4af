#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace lrq::io {

/// A tokenizer file asks for something that we do not do; another file beside it may do.
class UnsupportedTokenizer : public DataError {
 public:
  using DataError::DataError;
};

/// A value inside of tokenizer.json together with its place, so that every complaint names it.
/// Owns: nothing; borrows the document.
class JsonPart {
 public:
  JsonPart(const nlohmann::json& value, std::string where)
      : value_(&value), where_(std::move(where)) {}

  [[nodiscard]] const nlohmann::json& value() const { return *value_; }
  [[nodiscard]] const std::string& where() const { return where_; }
  /// False for a missing field and for null.
  [[nodiscard]] bool has(const std::string& field) const;

  /// Each throws DataError if the field is missing or of another JSON type.
  [[nodiscard]] JsonPart object(const std::string& field) const;
  [[nodiscard]] std::vector<JsonPart> list(const std::string& field) const;
  [[nodiscard]] std::string text(const std::string& field) const;
  /// The field, or `otherwise` where it is missing or null.
  [[nodiscard]] bool flag(const std::string& field, bool otherwise) const;
  [[nodiscard]] std::string text(const std::string& field, const std::string& otherwise) const;
  /// A token id: a whole number from 0 on, small enough for int32 (and for a table of all ids).
  [[nodiscard]] static std::int32_t id(const nlohmann::json& value, const std::string& where);

  /// Throw UnsupportedTokenizer that names this place.
  [[noreturn]] void unsupported(const std::string& what) const;
  /// Throw DataError: the file is broken here.
  [[noreturn]] void broken(const std::string& what) const;

 private:
  [[nodiscard]] const nlohmann::json& field(const std::string& name) const;

  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace lrq::io

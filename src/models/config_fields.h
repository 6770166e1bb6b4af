#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace lrq::models {

/// Read fields of one JSON object of a config.json; say which field is wrong, and how.
/// Owns: nothing; the object outlives it.  Every method throws DataError as `fail` does.
class ConfigFields {
 public:
  /// where: the path, and the place inside the file, for messages.
  ConfigFields(const nlohmann::json& object, std::string where);

  [[nodiscard]] const std::string& where() const { return where_; }
  /// The field, or nullptr if it is absent or null: Hugging Face writes null for "default".
  [[nodiscard]] const nlohmann::json* find(const std::string& name) const;
  /// Whether the field is there and says null.
  [[nodiscard]] bool is_null(const std::string& name) const;

  /// A whole number above 0.
  [[nodiscard]] std::int64_t count(const std::string& name) const;
  [[nodiscard]] std::int64_t count_or(const std::string& name, std::int64_t otherwise) const;
  /// A finite number above 0.
  [[nodiscard]] double positive(const std::string& name) const;
  [[nodiscard]] double positive_or(const std::string& name, double otherwise) const;
  [[nodiscard]] bool flag_or(const std::string& name, bool otherwise) const;
  [[nodiscard]] std::string text_or(const std::string& name, const std::string& otherwise) const;

  /// Refuse a flag that changes what the model computes, unless it has the supported value.
  void only_flag(const std::string& name, bool supported) const;
  /// Refuse every text but one: what the field says unless it is there, and what is supported.
  void only_text(const std::string& name, const std::string& supported) const;

  /// "<name> is <found>, expected <expected>".
  [[noreturn]] void wrong(const std::string& name, const nlohmann::json& found,
                          std::string_view expected) const;
  [[noreturn]] void fail(const std::string& what) const;

 private:
  [[nodiscard]] std::int64_t checked_count(const std::string& name,
                                           const nlohmann::json& field) const;
  [[nodiscard]] double checked_positive(const std::string& name, const nlohmann::json& field) const;

  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace lrq::models

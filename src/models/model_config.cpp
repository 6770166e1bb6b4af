#include "src/models/model_config.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/models/registry.h"

namespace lrq::models {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFix = "compare the file with the model's page, or fetch it again";

/// Reads fields of one JSON object and says which field is wrong, and how.
class Fields {
 public:
  Fields(const Json& object, const std::string& where) : object_(object), where_(where) {}

  /// The field, or nullptr if it is absent or null: Hugging Face writes null for "default".
  [[nodiscard]] const Json* find(const std::string& name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  [[nodiscard]] std::int64_t count(const std::string& name) const {
    const Json* field = find(name);
    if (field == nullptr) fail(concat("no field ", name, ", expected a whole number above 0"));
    return checked_count(name, *field);
  }
  [[nodiscard]] std::int64_t count_or(const std::string& name, std::int64_t otherwise) const {
    const Json* field = find(name);
    return field == nullptr ? otherwise : checked_count(name, *field);
  }

  [[nodiscard]] double positive(const std::string& name) const {
    const Json* field = find(name);
    if (field == nullptr) fail(concat("no field ", name, ", expected a number above 0"));
    return checked_positive(name, *field);
  }
  [[nodiscard]] double positive_or(const std::string& name, double otherwise) const {
    const Json* field = find(name);
    return field == nullptr ? otherwise : checked_positive(name, *field);
  }

  [[nodiscard]] bool flag_or(const std::string& name, bool otherwise) const {
    const Json* field = find(name);
    if (field == nullptr) return otherwise;
    if (!field->is_boolean()) wrong(name, *field, "true or false");
    return field->get<bool>();
  }

  [[nodiscard]] std::string text_or(const std::string& name, const std::string& otherwise) const {
    const Json* field = find(name);
    if (field == nullptr) return otherwise;
    if (!field->is_string()) wrong(name, *field, "a text");
    return field->get<std::string>();
  }

  [[noreturn]] void wrong(const std::string& name, const Json& found,
                          std::string_view expected) const {
    fail(concat(name, " is ", found.dump(), ", expected ", expected));
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError({.what = what, .where = where_, .fix = std::string(kFix)});
  }

 private:
  [[nodiscard]] std::int64_t checked_count(const std::string& name, const Json& field) const {
    constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
    if (!field.is_number_integer() || (field.is_number_unsigned() ? field.get<std::uint64_t>() == 0
                                                                  : field.get<std::int64_t>() <= 0))
      wrong(name, field, "a whole number above 0");
    if (field.get<std::uint64_t>() > static_cast<std::uint64_t>(kLargest))
      wrong(name, field, concat("at most ", kLargest));
    return field.get<std::int64_t>();
  }
  [[nodiscard]] double checked_positive(const std::string& name, const Json& field) const {
    if (!field.is_number()) wrong(name, field, "a number above 0");
    const double value = field.get<double>();
    if (!(value > 0.0) || !std::isfinite(value)) wrong(name, field, "a number above 0");
    return value;
  }

  const Json& object_;
  const std::string& where_;
};

Json parse_object(std::string_view json, const std::string& where) {
  Json parsed;
  try {
    parsed = Json::parse(json);
  } catch (const Json::parse_error& error) {
    throw DataError({.what = concat("not JSON: ", error.what(), "; expected a model's config.json"),
                     .where = where,
                     .fix = std::string(kFix)});
  }
  if (!parsed.is_object()) {
    throw DataError({.what = concat("found a JSON ", parsed.type_name(), ", expected an object"),
                     .where = where,
                     .fix = std::string(kFix)});
  }
  return parsed;
}

/// The family: named by model_type, or by one of the architectures.
std::string find_family(const Fields& fields, const std::string& where) {
  const std::string model_type = fields.text_or("model_type", "");
  for (const std::string& name : family_names()) {
    if (name == model_type) return name;
  }
  std::vector<std::string> listed;
  if (const Json* architectures = fields.find("architectures")) {
    if (!architectures->is_array())
      fields.wrong("architectures", *architectures, "a list of names");
    for (const Json& architecture : *architectures) {
      if (!architecture.is_string()) {
        fields.wrong("architectures", *architectures, "a list of names");
      }
      listed.push_back(architecture.get<std::string>());
      if (const auto family = family_of_architecture(listed.back())) return *family;
    }
  }
  throw DataError({.what = concat("architecture not supported: model_type \"", model_type,
                                  "\", architectures [", join(listed, ", "),
                                  "]; supported: ", join(family_names(), ", ")),
                   .where = where,
                   .fix = "name a model of a supported family with --model"});
}

Llama3RopeScaling read_llama3(const Fields& scaling) {
  Llama3RopeScaling read;
  read.factor = scaling.positive("factor");
  read.low_freq_factor = scaling.positive("low_freq_factor");
  read.high_freq_factor = scaling.positive("high_freq_factor");
  read.original_max_position_embeddings = scaling.count("original_max_position_embeddings");
  if (read.high_freq_factor <= read.low_freq_factor) {
    scaling.fail(concat("high_freq_factor is ", read.high_freq_factor,
                        ", expected more than low_freq_factor ", read.low_freq_factor));
  }
  return read;
}

/// Rotary settings: beside the others in older files, in rope_parameters in newer ones.
void read_rope(const Fields& fields, const std::string& where, ModelConfig& config) {
  config.rope_theta = fields.positive_or("rope_theta", 10000.0);
  if (fields.positive_or("partial_rotary_factor", 1.0) != 1.0) {
    fields.wrong("partial_rotary_factor", *fields.find("partial_rotary_factor"), "1");
  }
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const Json* object = fields.find(name);
    if (object == nullptr) continue;
    if (!object->is_object()) fields.wrong(name, *object, "an object or null");
    const std::string inside = concat(where, ", ", name);
    const Fields scaling(*object, inside);
    config.rope_theta = scaling.positive_or("rope_theta", config.rope_theta);
    const std::string type = scaling.text_or("rope_type", scaling.text_or("type", "default"));
    if (type == "llama3") {
      config.rope_scaling = read_llama3(scaling);
    } else if (type != "default") {
      throw DataError({.what = concat("rope scaling of type \"", type,
                                      "\" is not supported, only \"default\" and \"llama3\""),
                       .where = inside,
                       .fix = "name a model without it with --model"});
    }
  }
}

void read_heads(const Fields& fields, ModelConfig& config) {
  config.num_attention_heads = fields.count("num_attention_heads");
  config.num_key_value_heads = fields.count_or("num_key_value_heads", config.num_attention_heads);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fields.fail(concat("num_attention_heads is ", config.num_attention_heads,
                       ", expected a multiple of num_key_value_heads ",
                       config.num_key_value_heads));
  }
  if (fields.find("head_dim") == nullptr && config.hidden_size % config.num_attention_heads != 0) {
    fields.fail(concat("hidden_size is ", config.hidden_size,
                       ", expected a multiple of num_attention_heads ", config.num_attention_heads,
                       " where head_dim is not given"));
  }
  config.head_dim = fields.count_or("head_dim", config.hidden_size / config.num_attention_heads);
  if (config.head_dim <= 0 || config.head_dim % 2 != 0) {
    fields.fail(concat("head_dim is ", config.head_dim,
                       ", expected an even number: rotary embeddings turn pairs of channels"));
  }
}

}  // namespace

ModelConfig parse_model_config(std::string_view json, const std::string& where) {
  const Json object = parse_object(json, where);
  const Fields fields(object, where);
  ModelConfig config;
  config.model_type = find_family(fields, where);
  config.hidden_size = fields.count("hidden_size");
  config.intermediate_size = fields.count("intermediate_size");
  config.num_hidden_layers = fields.count("num_hidden_layers");
  config.vocab_size = fields.count("vocab_size");
  config.max_position_embeddings = fields.count_or("max_position_embeddings", 2048);
  config.rms_norm_eps = fields.positive_or("rms_norm_eps", 1e-6);
  config.tie_word_embeddings = fields.flag_or("tie_word_embeddings", false);
  config.attention_bias = fields.flag_or("attention_bias", false);
  config.mlp_bias = fields.flag_or("mlp_bias", false);
  read_heads(fields, config);
  read_rope(fields, where, config);
  const std::string act = fields.text_or("hidden_act", "silu");
  if (act != "silu") {
    throw DataError({.what = concat("hidden_act is \"", act, "\", only \"silu\" is supported"),
                     .where = where,
                     .fix = "name a model with that activation with --model"});
  }
  return config;
}

}  // namespace lrq::models

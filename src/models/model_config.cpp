#include "src/models/model_config.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/models/config_fields.h"
#include "src/models/registry.h"

namespace lrq::models {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFix = "compare the file with the model's page, or fetch it again";

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
const FamilyEntry& find_family(const ConfigFields& fields) {
  const std::string model_type = fields.text_or("model_type", "");
  if (const FamilyEntry* family = family_of_type(model_type)) return *family;
  std::vector<std::string> listed;
  if (const Json* architectures = fields.find("architectures")) {
    if (!architectures->is_array()) {
      fields.wrong("architectures", *architectures, "a list of names");
    }
    for (const Json& architecture : *architectures) {
      if (!architecture.is_string()) {
        fields.wrong("architectures", *architectures, "a list of names");
      }
      listed.push_back(architecture.get<std::string>());
      if (const FamilyEntry* family = family_of_architecture(listed.back())) return *family;
    }
  }
  throw DataError({.what = concat("architecture not supported: model_type \"", model_type,
                                  "\", architectures [", join(listed, ", "),
                                  "]; supported: ", join(family_names(), ", ")),
                   .where = fields.where(),
                   .fix = "name a model of a supported family with --model"});
}

}  // namespace

ModelConfig parse_model_config(std::string_view json, const std::string& where) {
  const Json object = parse_object(json, where);
  const ConfigFields fields(object, where);
  const FamilyEntry& family = find_family(fields);
  if (fields.find("quantization_config") != nullptr) {
    throw DataError({.what = "quantization_config says that the weights are quantized already, "
                             "expected a float checkpoint",
                     .where = where,
                     .fix = "name the original model with --model"});
  }
  ModelConfig config;
  config.model_type = family.model_type;
  config.hidden_size = fields.count("hidden_size");
  config.num_hidden_layers = fields.count("num_hidden_layers");
  config.num_attention_heads = fields.count("num_attention_heads");
  config.vocab_size = fields.count("vocab_size");
  config.max_position_embeddings = fields.count_or("max_position_embeddings", 2048);
  family.read(fields, config);
  return config;
}

}  // namespace lrq::models

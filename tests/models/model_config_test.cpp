#include "src/models/model_config.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/models/family.h"

namespace lrq::models {
namespace {

using nlohmann::json;

json small_config() {
  return {{"model_type", "llama"},
          {"hidden_size", 64},
          {"intermediate_size", 172},
          {"num_hidden_layers", 5},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 4},
          {"vocab_size", 512},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"},
          {"rope_scaling", nullptr},
          {"max_position_embeddings", 512}};
}

json changed(const std::string& field, const json& value) {
  json config = small_config();
  config[field] = value;
  return config;
}

ModelConfig parse(const json& config) { return parse_model_config(config.dump(), "config.json"); }

/// The message of the DataError that the text brings.
std::string refusal_of_text(const std::string& text) {
  try {
    (void)parse_model_config(text, "some/config.json");
  } catch (const DataError& error) {
    EXPECT_EQ(error.text().where.substr(0, 16), "some/config.json");
    EXPECT_FALSE(error.text().fix.empty());
    return error.text().what;
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}
std::string refusal(const json& config) { return refusal_of_text(config.dump()); }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ModelConfigTest, ReadsEveryField) {
  json full = small_config();
  full["head_dim"] = 16;
  full["rope_theta"] = 5e5;
  full["tie_word_embeddings"] = true;
  full["attention_bias"] = true;
  full["mlp_bias"] = true;
  const ModelConfig config = parse(full);
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.intermediate_size, 172);
  EXPECT_EQ(config.num_hidden_layers, 5);
  EXPECT_EQ(config.num_attention_heads, 8);
  EXPECT_EQ(config.num_key_value_heads, 4);
  EXPECT_EQ(config.query_groups(), 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.max_position_embeddings, 512);
  EXPECT_DOUBLE_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_DOUBLE_EQ(config.rope_theta, 5e5);
  EXPECT_FALSE(config.rope_scaling.has_value());
  EXPECT_TRUE(config.tie_word_embeddings && config.attention_bias && config.mlp_bias);
}

TEST(ModelConfigTest, FillsInWhatHuggingFaceFillsIn) {
  json config = small_config();
  for (const char* field : {"num_key_value_heads", "rms_norm_eps", "hidden_act", "rope_scaling"}) {
    config.erase(field);
  }
  const ModelConfig read = parse(config);
  EXPECT_EQ(read.num_key_value_heads, 8);
  EXPECT_EQ(read.head_dim, 8);
  EXPECT_DOUBLE_EQ(read.rms_norm_eps, 1e-6);
  EXPECT_DOUBLE_EQ(read.rope_theta, 10000.0);
  EXPECT_FALSE(read.tie_word_embeddings || read.attention_bias || read.mlp_bias);
}

TEST(ModelConfigTest, FindsTheFamilyByArchitectureToo) {
  json config = changed("architectures", {"LlamaForCausalLM"});
  config["model_type"] = "something_new";
  EXPECT_EQ(parse(config).model_type, "llama");
}

TEST(ModelConfigTest, ReadsRopeSettingsOfOlderAndNewerFiles) {
  const json llama3 = {{"factor", 32.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  json older = llama3;
  older["type"] = "llama3";
  json newer = llama3;
  newer["rope_type"] = "llama3";
  newer["rope_theta"] = 500000.0;
  const ModelConfig from_older = parse(changed("rope_scaling", older));
  const ModelConfig from_newer = parse(changed("rope_parameters", newer));
  EXPECT_DOUBLE_EQ(from_newer.rope_theta, 500000.0);
  for (const ModelConfig& read : {from_older, from_newer}) {
    ASSERT_TRUE(read.rope_scaling.has_value());
    EXPECT_DOUBLE_EQ(read.rope_scaling->factor, 32.0);
    EXPECT_DOUBLE_EQ(read.rope_scaling->high_freq_factor, 4.0);
    EXPECT_EQ(read.rope_scaling->original_max_position_embeddings, 8192);
  }
  const json plain = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  EXPECT_DOUBLE_EQ(parse(changed("rope_parameters", plain)).rope_theta, 7.0);
  EXPECT_FALSE(parse(changed("rope_parameters", plain)).rope_scaling.has_value());
}

TEST(ModelConfigTest, SaysWhatIsWrongAndWhatWasExpected) {
  EXPECT_TRUE(contains(refusal_of_text("{\"hidden_size\": "), "not JSON"));
  EXPECT_TRUE(contains(refusal_of_text("[1]"), "found a JSON array, expected an object"));
  json missing = small_config();
  missing.erase("hidden_size");
  EXPECT_EQ(refusal(missing), "no field hidden_size, expected a whole number above 0");
  EXPECT_EQ(refusal(changed("hidden_size", "64")),
            "hidden_size is \"64\", expected a whole number above 0");
  EXPECT_EQ(refusal(changed("vocab_size", -1)),
            "vocab_size is -1, expected a whole number above 0");
  EXPECT_EQ(refusal(changed("vocab_size", 1.5)),
            "vocab_size is 1.5, expected a whole number above 0");
  EXPECT_TRUE(contains(refusal(changed("vocab_size", 5000000000)), "expected at most 2147483647"));
  EXPECT_EQ(refusal(changed("rms_norm_eps", 0)), "rms_norm_eps is 0, expected a number above 0");
  EXPECT_EQ(refusal(changed("attention_bias", 1)), "attention_bias is 1, expected true or false");
  EXPECT_EQ(refusal(changed("hidden_act", 3)), "hidden_act is 3, expected a text");
}

TEST(ModelConfigTest, RefusesSizesThatDoNotFitTogether) {
  EXPECT_EQ(refusal(changed("num_key_value_heads", 3)),
            "num_attention_heads is 8, expected a multiple of num_key_value_heads 3");
  EXPECT_EQ(refusal(changed("hidden_size", 63)),
            "hidden_size is 63, expected a multiple of num_attention_heads 8 where head_dim is not "
            "given");
  EXPECT_TRUE(contains(refusal(changed("head_dim", 7)), "head_dim is 7, expected an even number"));
}

TEST(ModelConfigTest, NamesUnknownArchitecturesAndWhatIsSupported) {
  json config = changed("architectures", {"MambaForCausalLM"});
  config["model_type"] = "mamba";
  const std::string what = refusal(config);
  EXPECT_TRUE(contains(what, "model_type \"mamba\"")) << what;
  EXPECT_TRUE(contains(what, "MambaForCausalLM")) << what;
  EXPECT_TRUE(contains(what, "supported: llama")) << what;
}

TEST(ModelConfigTest, NamesWhatItCannotCompute) {
  EXPECT_EQ(refusal(changed("hidden_act", "gelu")),
            "hidden_act is \"gelu\", only \"silu\" is supported");
  EXPECT_EQ(refusal(changed("rope_scaling", {{"type", "yarn"}, {"factor", 4.0}})),
            "rope scaling of type \"yarn\" is not supported, only \"default\" and \"llama3\"");
  EXPECT_EQ(refusal(changed("rope_scaling", {{"type", "llama3"}})),
            "no field factor, expected a number above 0");
  EXPECT_EQ(refusal(changed("partial_rotary_factor", 0.5)),
            "partial_rotary_factor is 0.5, expected 1");
}

json config_of(const std::string& model_type) { return changed("model_type", model_type); }

json opt_config() {
  return {{"model_type", "opt"},
          {"hidden_size", 64},
          {"ffn_dim", 256},
          {"num_hidden_layers", 5},
          {"num_attention_heads", 8},
          {"vocab_size", 512},
          {"activation_function", "relu"},
          {"max_position_embeddings", 128}};
}

TEST(ModelConfigTest, MistralHasAWindowUnlessTheFileSaysNull) {
  json config = config_of("mistral");
  EXPECT_EQ(parse(config).sliding_window, 4096);  // as Hugging Face where the field is absent
  config["sliding_window"] = 7;
  EXPECT_EQ(parse(config).sliding_window, 7);
  config["sliding_window"] = nullptr;
  EXPECT_FALSE(parse(config).sliding_window.has_value());
  config["sliding_window"] = 0;
  EXPECT_EQ(refusal(config), "sliding_window is 0, expected a whole number above 0");
}

TEST(ModelConfigTest, QwenHasAWindowInAllLayersOrInNone) {
  for (const char* family : {"qwen2", "qwen3"}) {
    json config = config_of(family);
    config["sliding_window"] = 16;
    EXPECT_FALSE(parse(config).sliding_window.has_value());
    config["use_sliding_window"] = true;
    EXPECT_FALSE(parse(config).sliding_window.has_value());  // the first 28 layers have none
    config["max_window_layers"] = 5;
    EXPECT_FALSE(parse(config).sliding_window.has_value());
    config["max_window_layers"] = 0;
    EXPECT_EQ(parse(config).sliding_window, 16);
    config["max_window_layers"] = 3;
    EXPECT_TRUE(contains(refusal(config), "max_window_layers is 3 of 5 layers"));
    config["layer_types"] = json(5, "sliding_attention");
    EXPECT_EQ(parse(config).sliding_window, 16);
    config["layer_types"] = json(5, "full_attention");
    EXPECT_FALSE(parse(config).sliding_window.has_value());
    config["layer_types"][2] = "sliding_attention";
    EXPECT_TRUE(contains(refusal(config), "layer_types names 1 of 5 layers"));
    config["layer_types"][2] = "chunked_attention";
    EXPECT_TRUE(contains(refusal(config), "layer_types is \"chunked_attention\""));
    config["layer_types"] = json(4, "full_attention");
    EXPECT_TRUE(contains(refusal(config), "expected a list of 5 names"));
  }
}

TEST(ModelConfigTest, Qwen3HasHeadsOf128WhereTheFileDoesNotSay) {
  EXPECT_EQ(parse(config_of("qwen3")).head_dim, 128);
  EXPECT_EQ(parse(config_of("qwen2")).head_dim, 8);
}

TEST(ModelConfigTest, ReadsOptWithItsOwnFieldsAndDefaults) {
  json file = opt_config();
  const ModelConfig config = parse(file);
  EXPECT_EQ(config.model_type, "opt");
  EXPECT_EQ(config.intermediate_size, 256);
  EXPECT_EQ(config.num_key_value_heads, 8);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.word_embed_proj_dim, 64);
  EXPECT_TRUE(config.do_layer_norm_before && config.tie_word_embeddings);
  EXPECT_TRUE(config.attention_bias && config.mlp_bias);
  file["do_layer_norm_before"] = false;
  file["word_embed_proj_dim"] = 32;
  file["enable_bias"] = false;
  const ModelConfig other = parse(file);
  EXPECT_FALSE(other.do_layer_norm_before || other.attention_bias || other.mlp_bias);
  EXPECT_EQ(other.word_embed_proj_dim, 32);
}

TEST(ModelConfigTest, NamesWhatItCannotComputeOfTheOtherFamilies) {
  json opt = opt_config();
  opt["activation_function"] = "gelu";
  EXPECT_EQ(refusal(opt), "activation_function is \"gelu\", only \"relu\" is supported");
  opt = opt_config();
  opt["layer_norm_elementwise_affine"] = false;
  EXPECT_EQ(refusal(opt), "layer_norm_elementwise_affine is false, only true is supported");
  opt = opt_config();
  opt["_remove_final_layer_norm"] = true;
  EXPECT_EQ(refusal(opt), "_remove_final_layer_norm is true, only false is supported");
  opt = opt_config();
  opt["num_attention_heads"] = 7;
  EXPECT_EQ(refusal(opt), "hidden_size is 64, expected a multiple of num_attention_heads 7");
  json qwen2 = config_of("qwen2");
  qwen2["use_mrope"] = true;
  EXPECT_EQ(refusal(qwen2), "use_mrope is true, only false is supported");
  const json partial = {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}};
  EXPECT_EQ(refusal(changed("rope_parameters", partial)),
            "partial_rotary_factor is 0.5, expected 1");
  EXPECT_TRUE(contains(refusal(changed("quantization_config", {{"quant_method", "gptq"}})),
                       "quantization_config"));
}

TEST(FamilyRegistryTest, MakesEveryFamilyItNames) {
  ModelConfig config = parse(small_config());
  for (const std::string& name : family_names()) {
    config.model_type = name;
    EXPECT_EQ(make_family(config)->config().model_type, name);
  }
}

TEST(FamilyRegistryTest, RefusesAnUnknownNameWithTheKnownOnes) {
  ModelConfig config = parse(small_config());
  config.model_type = "mamba";
  EXPECT_THROW((void)make_family(config), DataError);
}

}  // namespace
}  // namespace lrq::models

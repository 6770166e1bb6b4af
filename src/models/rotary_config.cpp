#include "src/models/rotary_config.h"

#include <cstddef>
#include <string>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::models {
namespace {

using Json = nlohmann::json;

Llama3RopeScaling read_llama3(const ConfigFields& scaling) {
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

void only_whole_heads(const ConfigFields& fields) {
  if (fields.positive_or("partial_rotary_factor", 1.0) != 1.0) {
    fields.wrong("partial_rotary_factor", *fields.find("partial_rotary_factor"), "1");
  }
}

/// Rotary settings: beside the others in older files, in rope_parameters in newer ones.
void read_rope(const ConfigFields& fields, ModelConfig& config) {
  config.rope_theta = fields.positive_or("rope_theta", 10000.0);
  only_whole_heads(fields);
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const Json* object = fields.find(name);
    if (object == nullptr) continue;
    if (!object->is_object()) fields.wrong(name, *object, "an object or null");
    const ConfigFields scaling(*object, concat(fields.where(), ", ", name));
    only_whole_heads(scaling);
    config.rope_theta = scaling.positive_or("rope_theta", config.rope_theta);
    const std::string type = scaling.text_or("rope_type", scaling.text_or("type", "default"));
    if (type == "llama3") {
      config.rope_scaling = read_llama3(scaling);
    } else if (type != "default") {
      throw DataError({.what = concat("rope scaling of type \"", type,
                                      "\" is not supported, only \"default\" and \"llama3\""),
                       .where = scaling.where(),
                       .fix = "name a model without it with --model"});
    }
  }
}

void read_heads(const ConfigFields& fields, ModelConfig& config) {
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

[[noreturn]] void refuse_mixed_layers(const ConfigFields& fields, const std::string& what) {
  throw DataError({.what = concat(what,
                                  "; a sliding window in some layers and not in others is "
                                  "not supported"),
                   .where = fields.where(),
                   .fix = "name a model with one kind of attention with --model"});
}

/// How many of the layers slide, by their list.
std::int64_t sliding_layers(const ConfigFields& fields, const Json& types, std::int64_t layers) {
  if (!types.is_array() || types.size() != static_cast<std::size_t>(layers)) {
    fields.wrong("layer_types", types, concat("a list of ", layers, " names"));
  }
  std::int64_t sliding = 0;
  for (const Json& type : types) {
    if (type == "sliding_attention") ++sliding;
    if (type != "sliding_attention" && type != "full_attention") {
      fields.wrong("layer_types", type, "\"full_attention\" or \"sliding_attention\"");
    }
  }
  return sliding;
}

}  // namespace

void read_rotary_config(const ConfigFields& fields, ModelConfig& config) {
  config.intermediate_size = fields.count("intermediate_size");
  config.rms_norm_eps = fields.positive_or("rms_norm_eps", 1e-6);
  config.tie_word_embeddings = fields.flag_or("tie_word_embeddings", false);
  read_heads(fields, config);
  read_rope(fields, config);
  fields.only_text("hidden_act", "silu");
}

void read_window_of_layers(const ConfigFields& fields, ModelConfig& config) {
  if (!fields.flag_or("use_sliding_window", false) || fields.is_null("sliding_window")) return;
  const std::int64_t window = fields.count_or("sliding_window", 4096);
  const std::int64_t layers = config.num_hidden_layers;
  if (const Json* types = fields.find("layer_types")) {
    const std::int64_t sliding = sliding_layers(fields, *types, layers);
    if (sliding == layers) config.sliding_window = window;
    if (sliding > 0 && sliding < layers) {
      refuse_mixed_layers(fields, concat("layer_types names ", sliding, " of ", layers,
                                         " layers \"sliding_attention\""));
    }
    return;
  }
  const Json* found = fields.find("max_window_layers");
  const bool zero = found != nullptr && *found == 0;
  const std::int64_t full = zero ? 0 : fields.count_or("max_window_layers", 28);
  if (full == 0) config.sliding_window = window;
  if (full > 0 && full < layers) {
    refuse_mixed_layers(fields, concat("use_sliding_window is true and max_window_layers is ", full,
                                       " of ", layers, " layers"));
  }
}

}  // namespace lrq::models

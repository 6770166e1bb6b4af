#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lrq::models {

/// Llama-3's change of the rotary frequencies (config.json, rope_scaling of type "llama3").
struct Llama3RopeScaling {
  double factor = 8.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::int64_t original_max_position_embeddings = 8192;
};

/// What config.json says about a decoder, in the field's own names.
struct ModelConfig {
  std::string model_type;  ///< "llama", "opt", ...: picks the family
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  std::optional<Llama3RopeScaling> rope_scaling;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  ///< with mlp_bias: OPT's enable_bias
  bool mlp_bias = false;
  /// How many positions a token attends to, its own included; none: all before it.
  std::optional<std::int64_t> sliding_window;
  bool do_layer_norm_before = true;      ///< OPT: false puts the norms behind the residuals
  std::int64_t word_embed_proj_dim = 0;  ///< OPT: width of the embedding; 0: hidden_size

  [[nodiscard]] std::int64_t query_groups() const {
    return num_attention_heads / num_key_value_heads;
  }
};

/// Read the text of a config.json.  where: the path, for messages.
/// Throws DataError: not JSON, a field missing or of the wrong type, sizes that do not fit together
/// (heads not divisible, odd head size, ...), an unknown architecture or rope scaling, whatever
/// else changes what the model computes and no family here does - each with the value found and the
/// values supported.
[[nodiscard]] ModelConfig parse_model_config(std::string_view json, const std::string& where);

}  // namespace lrq::models

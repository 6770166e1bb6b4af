#include "src/models/registry.h"
#include "src/models/rotary_config.h"
#include "src/models/rotary_decoder.h"

namespace lrq::models {
namespace {

// What Hugging Face assumes where the file does not say, whatever hidden_size is.
constexpr std::int64_t kDefaultHeadSize = 128;

void read(const ConfigFields& fields, ModelConfig& config) {
  read_rotary_config(fields, config);
  config.head_dim = fields.count_or("head_dim", kDefaultHeadSize);
  read_window_of_layers(fields, config);
  config.attention_bias = fields.flag_or("attention_bias", false);
}

std::unique_ptr<Family> make(const ModelConfig& config) {
  return make_rotary_decoder(
      config,
      {.qkv_bias = config.attention_bias, .out_bias = config.attention_bias, .head_norms = true});
}

}  // namespace

FamilyEntry qwen3_family() { return {"qwen3", "Qwen3ForCausalLM", read, make}; }

}  // namespace lrq::models

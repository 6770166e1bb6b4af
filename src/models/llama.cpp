#include "src/models/registry.h"
#include "src/models/rotary_config.h"
#include "src/models/rotary_decoder.h"

namespace lrq::models {
namespace {

void read(const ConfigFields& fields, ModelConfig& config) {
  read_rotary_config(fields, config);
  config.attention_bias = fields.flag_or("attention_bias", false);
  config.mlp_bias = fields.flag_or("mlp_bias", false);
}

std::unique_ptr<Family> make(const ModelConfig& config) {
  return make_rotary_decoder(config, {.qkv_bias = config.attention_bias,
                                      .out_bias = config.attention_bias,
                                      .mlp_bias = config.mlp_bias});
}

}  // namespace

FamilyEntry llama_family() { return {"llama", "LlamaForCausalLM", read, make}; }

}  // namespace lrq::models

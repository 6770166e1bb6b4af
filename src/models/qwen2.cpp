#include "src/models/registry.h"
#include "src/models/rotary_config.h"
#include "src/models/rotary_decoder.h"

namespace lrq::models {
namespace {

void read(const ConfigFields& fields, ModelConfig& config) {
  read_rotary_config(fields, config);
  read_window_of_layers(fields, config);
  fields.only_flag("use_mrope", false);
}

std::unique_ptr<Family> make(const ModelConfig& config) {
  return make_rotary_decoder(config, {.qkv_bias = true});
}

}  // namespace

FamilyEntry qwen2_family() { return {"qwen2", "Qwen2ForCausalLM", read, make}; }

}  // namespace lrq::models

#include "src/models/registry.h"
#include "src/models/rotary_config.h"
#include "src/models/rotary_decoder.h"

namespace lrq::models {
namespace {

// The window that Hugging Face assumes where the file says nothing; null means none.
constexpr std::int64_t kDefaultWindow = 4096;

void read(const ConfigFields& fields, ModelConfig& config) {
  read_rotary_config(fields, config);
  if (fields.is_null("sliding_window")) return;
  config.sliding_window = fields.count_or("sliding_window", kDefaultWindow);
}

std::unique_ptr<Family> make(const ModelConfig& config) { return make_rotary_decoder(config, {}); }

}  // namespace

FamilyEntry mistral_family() { return {"mistral", "MistralForCausalLM", read, make}; }

}  // namespace lrq::models

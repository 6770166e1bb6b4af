#include "tests/models/golden_case.h"

#include <algorithm>
#include <cctype>

#include <ATen/ATen.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::models {
namespace {

[[noreturn]] void not_understood(const GoldenFile& file, const std::string& setting) {
  throw DataError({.what = concat(setting, " is \"", file.setting(setting), "\""),
                   .where = file.path,
                   .fix = "compare with tests/data/golden/README.md"});
}

double number(const GoldenFile& file, const std::string& setting) {
  try {
    return std::stod(file.setting(setting));
  } catch (const std::logic_error&) {
    not_understood(file, setting);
  }
}
std::int64_t whole(const GoldenFile& file, const std::string& setting) {
  return static_cast<std::int64_t>(number(file, setting));
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
double occurrences(const std::string& text, const std::string& part) {
  double count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

ModelConfig read_config(const GoldenFile& file) {
  ModelConfig config;
  config.model_type = "llama";
  config.hidden_size = whole(file, "hidden");
  config.intermediate_size = whole(file, "inter");
  config.num_hidden_layers = 1;
  config.num_attention_heads = whole(file, "heads");
  config.num_key_value_heads = whole(file, "kv_heads");
  config.head_dim = config.hidden_size / config.num_attention_heads;
  config.vocab_size = 1;
  config.rms_norm_eps = number(file, "rms_eps");
  config.rope_theta = number(file, "rope_theta");
  return config;
}

ScaleStart read_start(const GoldenFile& file) {
  const std::string text = lower(file.setting("init"));
  if (contains(text, "lae")) return ScaleStart::kLae;
  if (contains(text, "smoothquant") || contains(text, "alpha") || contains(text, "omniquant")) {
    return ScaleStart::kSmoothQuant;
  }
  if (contains(text, "ones")) return ScaleStart::kOnes;
  not_understood(file, "init");
}

BlockMethod read_method(const GoldenFile& file) {
  const auto learns = [&](const std::string& part) {
    return std::any_of(file.tensors.begin(), file.tensors.end(), [&](const auto& item) {
      return item.first.starts_with("init.") && contains(item.first, part);
    });
  };
  BlockMethod method;
  method.weight.bits = static_cast<int>(whole(file, "wbits"));
  const std::string group = lower(file.setting("group_size"));
  if (group != "none" && !group.empty()) method.weight.group_size = whole(file, "group_size");
  method.activation.bits = static_cast<int>(whole(file, "abits"));
  method.query.bits = method.activation.bits;
  method.key_value.bits = method.activation.bits;
  method.clip = learns("upbound_factor") ? Clip::kLearned : Clip::kNone;
  method.scale = learns("_smooth_scale") ? ScaleMode::kLearned : ScaleMode::kOff;
  method.shift = learns("_smooth_shift") ? ShiftMode::kLearned : ShiftMode::kOff;
  method.qk = learns("qkt_smooth_scale") ? QkMode::kFree : QkMode::kOff;
  method.parametrization = Parametrization::kAbsolute;
  if (method.scale != ScaleMode::kOff) {
    method.start = read_start(file);
    if (method.start == ScaleStart::kSmoothQuant) method.alpha = number(file, "alpha");
  }
  return method;
}

}  // namespace

GoldenCase read_golden_case(const GoldenFile& file) {
  GoldenCase read;
  read.family = make_family(read_config(file));
  read.method = read_method(file);
  read.smoothing_rate = number(file, "let_lr");
  read.clipping_rate = number(file, "lwc_lr");
  const std::string loss = lower(file.setting("loss"));
  read.mse_weight = occurrences(loss, "mse");
  // One block alone: the homologous target of the augmented loss is the same output.
  if (contains(loss, "aug") && read.mse_weight == 1.0) read.mse_weight = 2.0;
  read.nlc_weight = std::max(occurrences(loss, "log"), occurrences(loss, "nlc"));
  if (read.mse_weight + read.nlc_weight == 0.0) not_understood(file, "loss");
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("init.")) read.init[name.substr(5)] = tensor;
    if (!name.starts_with("weight.")) continue;
    const std::string rest = name.substr(7);
    const bool full = rest.ends_with(".weight") || rest.ends_with(".bias");
    read.weights[full ? rest : rest + ".weight"] = tensor;
  }
  for (const auto& [linear, site] :
       {std::pair{"self_attn.q_proj", Site::kQkvIn}, std::pair{"self_attn.o_proj", Site::kOutIn},
        std::pair{"mlp.up_proj", Site::kMlpIn}}) {
    const std::string name = concat("act_absmax.", linear);
    if (file.has(name)) read.statistics[concat(site_name(site), ".absmax")] = file.tensor(name);
  }
  return read;
}

bool was_learned(const GoldenFile& file, const std::string& learnable) {
  return file.has("after3." + learnable) &&
         !at::equal(file.tensor("after3." + learnable), file.tensor("init." + learnable));
}

}  // namespace lrq::models

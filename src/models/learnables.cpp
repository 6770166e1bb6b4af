#include "src/models/learnables.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/models/clusters.h"
#include "src/models/site_maps.h"
#include "src/quant/clipping.h"
#include "src/transform/smoothing.h"

namespace lrq::models {
namespace {

constexpr std::string_view kScale = "_smooth_scale";
constexpr std::string_view kLogScale = "_smooth_log_scale";
constexpr std::string_view kShift = "_smooth_shift";
constexpr std::string_view kRotation = ".rotation_";
constexpr std::string_view kWeightClip = ".weight_quantizer.";
constexpr std::string_view kActivationClip = ".act_quantizer.";
constexpr std::string_view kCodes = ".codes";
constexpr std::string_view kHadamard = ".hadamard";
constexpr std::string_view kUpper = "upbound_factor";
constexpr std::string_view kLower = "lowbound_factor";

bool quantizes_anything(const BlockMethod& m) {
  return !(m.weight.identity() && m.activation.identity() && m.query.identity() &&
           m.key_value.identity());
}

const at::Tensor& statistic(const NamedTensors& statistics, Site site, std::string_view kind) {
  const std::string name = concat(site_name(site), ".", kind);
  const auto found = statistics.find(name);
  expect(found != statistics.end(), concat("the start values need the statistic ", name));
  return found->second;
}

/// Makes the start values of one block.
class Starter {
 public:
  Starter(const Family& family, const NamedTensors& weights, const NamedTensors& statistics,
          const BlockMethod& method)
      : family_(family),
        config_(family.config()),
        weights_(weights),
        statistics_(statistics),
        method_(method) {}

  [[nodiscard]] NamedTensors start() {
    const BlockSpec& block = family_.block();
    for (const NormPair& pair : block.norm_pairs) add_norm_pair(pair);
    for (const ValuePair& pair : block.value_pairs) add_value_pair(pair);
    add_query_key();
    for (const LinearSpec& linear : block.linears) add_clipping(linear);
    add_activation_clips();
    for (const LinearSpec& linear : block.linears) {
      if (method_.rotate_all || is_rotated_first(linear)) add_rotation(linear);
    }
    return std::move(made_);
  }

 private:
  [[nodiscard]] const at::Tensor& weight(const std::string& linear) const {
    return weights_.at(linear + ".weight");
  }

  void add(const std::string& name, const at::Tensor& value) {
    const bool learns = rate_group(name, method_) != RateGroup::kFixed;
    made_[name] = value.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true)
                      .contiguous()
                      .set_requires_grad(learns);
  }

  void add_scale(const std::string& pair, const at::Tensor& scale) {
    const bool logarithm = method_.parametrization == Parametrization::kLog;
    add(scale_name(pair, method_.parametrization), logarithm ? scale.log() : scale);
  }

  void add_norm_pair(const NormPair& pair) {
    const at::Tensor& reader = weight(pair.statistic_of);
    if (method_.scale != ScaleMode::kOff) {
      switch (method_.start) {
        case ScaleStart::kLae:
          add_scale(pair.name, transform::lae_scale(statistic(statistics_, pair.site, "absmax")));
          break;
        case ScaleStart::kSmoothQuant:
          add_scale(pair.name,
                    transform::smoothquant_scale(statistic(statistics_, pair.site, "absmax"),
                                                 reader, method_.alpha));
          break;
        case ScaleStart::kOnes:
          add_scale(pair.name, ones(reader, reader.size(1)));
          break;
      }
    }
    if (shift_starts_at_zero()) {
      add(shift_name(pair.name), at::zeros_like(ones(reader, reader.size(1))));
    } else if (method_.shift != ShiftMode::kOff) {
      add(shift_name(pair.name), statistic(statistics_, pair.site, "shift"));
    }
  }

  void add_value_pair(const ValuePair& pair) {
    const std::int64_t heads = config_.num_key_value_heads;
    const std::int64_t sharing = config_.query_groups();
    const at::Tensor& reader = weight(pair.consumer);
    const std::int64_t length = heads * config_.head_dim;
    if (!pair.heads && !method_.smooth_down) return;
    if (method_.scale != ScaleMode::kOff) add_scale(pair.name, value_scale(pair, reader));
    if (!pair.heads) return;  // its shift would pass through an activation function
    if (shift_starts_at_zero()) {
      add(shift_name(pair.name), at::zeros_like(ones(reader, length)));
    } else if (method_.shift != ShiftMode::kOff) {
      add(shift_name(pair.name), transform::mean_over_shared_heads(
                                     statistic(statistics_, pair.site, "shift"), heads, sharing));
    }
  }

  /// With grouped queries a value channel serves several heads: its range and the weights that
  /// read it are the largest over them.
  [[nodiscard]] at::Tensor value_scale(const ValuePair& pair, const at::Tensor& reader) const {
    const std::int64_t heads = pair.heads ? config_.num_key_value_heads : 1;
    const std::int64_t sharing = pair.heads ? config_.query_groups() : 1;
    if (method_.start == ScaleStart::kOnes) return ones(reader, reader.size(1) / sharing);
    const at::Tensor absmax = transform::max_over_shared_heads(
        statistic(statistics_, pair.site, "absmax"), heads, sharing);
    if (method_.start == ScaleStart::kLae) return transform::lae_scale(absmax);
    const at::Tensor columns =
        transform::max_over_shared_heads(reader.abs().amax(0), heads, sharing);
    return transform::smoothquant_scale(absmax, columns.unsqueeze(0), method_.alpha);
  }

  /// Starts at ones, so a scale that is not learned is left out.
  void add_query_key() {
    if (method_.scale != ScaleMode::kLearned || method_.qk == QkMode::kOff) return;
    const BlockSpec& block = family_.block();
    const std::int64_t channels = query_key_heads(block, config_) * config_.head_dim;
    add_scale(kQueryKeyPair,
              ones(weight(block.key), tied_query_key(block, method_) ? channels / 2 : channels));
  }

  void add_clipping(const LinearSpec& linear) {
    if (method_.clip != Clip::kLearned || method_.weight.identity()) return;
    for (const auto& name : {upper_clip_name(linear.name), lower_clip_name(linear.name)}) {
      add(name, quant::initial_clip_factor(linear.out, linear.in, method_.weight,
                                           weight(linear.name).device()));
    }
  }

  /// One pair of factors a site: they begin where their sigmoid is activation_clip_start.
  void add_activation_clips() {
    if (method_.activation_clip != Clip::kLearned) return;
    const double start = method_.activation_clip_start;
    const double raw = std::log(start / (1.0 - start));
    const at::Tensor& like = weight(family_.block().query);
    for (const Site site : kClippedSites) {
      const quant::Grid& grid = site == Site::kQuery ? method_.query
                                : site == Site::kKey ? method_.key_value
                                                     : method_.activation;
      if (grid.identity()) continue;
      for (const auto& name :
           {activation_upper_clip_name(site), activation_lower_clip_name(site)}) {
        add(name, ones(like, 1) * raw);
      }
    }
  }

  [[nodiscard]] bool shift_starts_at_zero() const {
    return method_.shift == ShiftMode::kZero ||
           (method_.shift == ShiftMode::kLearned && !family_.block().shift_starts_at_statistic);
  }

  /// The linears that the first published code gave vectors: queries, attention output and up
  /// projection (in OPT the first of the MLP).
  [[nodiscard]] bool is_rotated_first(const LinearSpec& linear) const {
    const BlockSpec& block = family_.block();
    if (linear.name == block.query || linear.input == Site::kOutIn) return true;
    const auto up = std::find_if(block.linears.rbegin(), block.linears.rend(),
                                 [](const LinearSpec& l) { return l.input == Site::kMlpIn; });
    return linear.name == up->name;
  }

  void add_rotation(const LinearSpec& linear) {
    if (method_.rotation == Rotation::kOff || method_.weight.identity()) return;
    const at::Tensor& like = weight(linear.name);
    if (method_.rotation == Rotation::kRow) {
      add(row_rotation_name(linear.name), ones(like, linear.out).unsqueeze(1));
      return;
    }
    const std::int64_t rank = method_.rotation_rank;
    add(left_rotation_name(linear.name),
        ones(like, linear.out).unsqueeze(1).expand({linear.out, rank}));
    add(right_rotation_name(linear.name),
        (ones(like, linear.in) / static_cast<double>(rank)).unsqueeze(0).expand({rank, linear.in}));
  }

  [[nodiscard]] static at::Tensor ones(const at::Tensor& like, std::int64_t length) {
    return at::ones({length}, like.options().dtype(at::kFloat));
  }

  const Family& family_;
  const ModelConfig& config_;
  const NamedTensors& weights_;
  const NamedTensors& statistics_;
  const BlockMethod& method_;
  NamedTensors made_;
};

}  // namespace

at::Tensor find(const NamedTensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? at::Tensor() : found->second;
}

std::string scale_name(const std::string& pair, Parametrization parametrization) {
  return concat(pair, parametrization == Parametrization::kLog ? kLogScale : kScale);
}
bool is_scale(const std::string& learnable) {
  return learnable.ends_with(kScale) || learnable.ends_with(kLogScale);
}
std::string shift_name(const std::string& pair) { return concat(pair, kShift); }
std::string upper_clip_name(const std::string& linear) {
  return concat(linear, kWeightClip, kUpper);
}
std::string lower_clip_name(const std::string& linear) {
  return concat(linear, kWeightClip, kLower);
}
std::string activation_upper_clip_name(Site site) {
  return concat(site_name(site), kActivationClip, kUpper);
}
std::string activation_lower_clip_name(Site site) {
  return concat(site_name(site), kActivationClip, kLower);
}
std::string codes_name(const std::string& linear) { return concat(linear, kCodes); }
std::string row_rotation_name(const std::string& linear) {
  return concat(linear, kRotation, "row");
}
std::string left_rotation_name(const std::string& linear) {
  return concat(linear, kRotation, "left");
}
std::string right_rotation_name(const std::string& linear) {
  return concat(linear, kRotation, "right");
}

bool tied_query_key(const BlockSpec& block, const BlockMethod& method) {
  return method.qk == QkMode::kTied && block.rotary;
}
std::int64_t query_key_heads(const BlockSpec& block, const ModelConfig& config) {
  return block.query_norm.empty() ? config.num_key_value_heads : 1;
}

RateGroup rate_group(const std::string& learnable, const BlockMethod& method) {
  if (learnable.find(kWeightClip) != std::string::npos) {
    const bool learns = method.clip == Clip::kLearned && !method.weight.identity();
    return learns ? RateGroup::kClipping : RateGroup::kFixed;
  }
  if (learnable.find(kActivationClip) != std::string::npos) {
    return method.activation_clip == Clip::kLearned ? RateGroup::kClipping : RateGroup::kFixed;
  }
  if (is_map(learnable)) {
    const bool learns =
        method.map.learn_householder && is_reflection(learnable) && quantizes_anything(method);
    return learns ? RateGroup::kMap : RateGroup::kFixed;
  }
  if (learnable.ends_with(kCodes) || is_cluster_state(learnable)) return RateGroup::kFixed;
  if (learnable.find(kRotation) != std::string::npos) {
    const bool learns = method.rotation != Rotation::kOff && !method.weight.identity();
    return learns ? RateGroup::kRotation : RateGroup::kFixed;
  }
  if (!quantizes_anything(method)) return RateGroup::kFixed;
  if (learnable.ends_with(kShift)) {
    // Weight-only schemes too: y = (x - d) Q(W)^T + W d, so d corrects the weights' error.
    return method.shift != ShiftMode::kOff ? RateGroup::kSmoothing : RateGroup::kFixed;
  }
  return method.scale == ScaleMode::kLearned ? RateGroup::kSmoothing : RateGroup::kFixed;
}

bool learns_anything(const BlockMethod& method) {
  if (!quantizes_anything(method)) return false;
  return method.scale == ScaleMode::kLearned || method.shift != ShiftMode::kOff ||
         method.map.learn_householder || method.activation_clip == Clip::kLearned ||
         (!method.weight.identity() &&
          (method.clip == Clip::kLearned || method.rotation != Rotation::kOff));
}

NamedTensors initial_learnables(const Family& family, const NamedTensors& weights,
                                const NamedTensors& statistics, const BlockMethod& method) {
  const at::NoGradGuard no_grad;
  return Starter(family, weights, statistics, method).start();
}

bool read_by_host(const std::string& learnable) {
  return (is_map(learnable) && learnable.ends_with(kHadamard)) || is_layout(learnable);
}

NamedTensors on_device(const NamedTensors& learnables, at::Device device) {
  NamedTensors placed;
  for (const auto& [name, tensor] : learnables) {
    placed.emplace(name, tensor.to(read_by_host(name) ? at::Device(at::kCPU) : device));
  }
  return placed;
}

void truncate_scales(NamedTensors& learnables, const BlockMethod& method) {
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : learnables) {
    if (is_map(name)) {
      if (!method.map.truncate_householder || !is_reflection(name)) continue;
      const at::Tensor lifted = tensor.sign() * transform::kSmallestScale;  // an exact zero stays
      tensor.copy_(at::where(tensor.abs().lt(transform::kSmallestScale), lifted, tensor));
    } else if (name.ends_with(kScale)) {
      tensor.copy_(transform::truncate_scale(tensor));
    } else if (name.ends_with(kLogScale)) {
      tensor.clamp_min_(std::log(transform::kSmallestScale));
    }
  }
}

NamedTensors truncated_scales(const NamedTensors& learnables, const BlockMethod& method) {
  const at::NoGradGuard no_grad;
  NamedTensors copies;
  for (const auto& [name, tensor] : learnables) copies.emplace(name, tensor.detach().clone());
  truncate_scales(copies, method);
  return copies;
}

}  // namespace lrq::models

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/models/clusters.h"
#include "src/models/learnables.h"
#include "src/models/site_maps.h"
#include "src/quant/fake_quant.h"
#include "src/transform/shift.h"
#include "src/transform/smoothing.h"

namespace lrq::models {
namespace {

/// The scale of a pair, whichever form the learnables hold, or undefined.
at::Tensor find_scale(const NamedTensors& learnables, const std::string& pair) {
  const at::Tensor logarithm = find(learnables, scale_name(pair, Parametrization::kLog));
  if (logarithm.defined()) return logarithm.exp();
  return find(learnables, scale_name(pair, Parametrization::kAbsolute));
}

/// Folds one block; holds what the transforms so far have done to each linear.
class Folder {
 public:
  Folder(const Family& family, const NamedTensors& weights, const NamedTensors& learnables,
         const BlockMethod& method)
      : family_(family),
        config_(family.config()),
        weights_(weights),
        learnables_(learnables),
        method_(method) {}

  [[nodiscard]] EffectiveBlock fold(at::ScalarType compute, NamedTensors* fixed) {
    fixed_ = fixed;
    transform();
    EffectiveBlock folded;
    folded.norms = std::move(norms_);
    for (const LinearSpec& spec : family_.block().linears) {
      const PreparedWeight prepared = in_basis(spec);
      at::Tensor quantized = quantized_weight(spec.name, prepared);
      const at::Tensor rotation = rotation_of(learnables_, spec.name);
      if (rotation.defined()) quantized = quantized * rotation;
      folded.linears[spec.name] = {quantized.to(compute), linears_.at(spec.name).bias};
    }
    folded.maps = std::move(maps_);
    folded.clusters = std::move(clusters_);
    folded.round_probabilities = method_.clusters.on && method_.clusters.probabilities;
    for (const Site site : kClippedSites) add_activation_clip(site, folded);
    return folded;
  }

  [[nodiscard]] std::map<std::string, PreparedWeight> prepared() {
    transform();
    std::map<std::string, PreparedWeight> found;
    for (const LinearSpec& spec : family_.block().linears) found[spec.name] = in_basis(spec);
    return found;
  }

 private:
  struct Linear {
    quant::WeightTransform transform;
    at::Tensor bias;
  };

  /// The order matters: value rows are scaled after their columns, the q.k rows last.
  void transform() {
    const BlockSpec& block = family_.block();
    for (const std::string& norm : block.norms) norms_[norm] = stored_norm(norm);
    for (const LinearSpec& linear : block.linears) {
      linears_[linear.name].bias = exact(find(weights_, linear.name + ".bias"));
    }
    for (const NormPair& pair : block.norm_pairs) fold_norm(pair, norms_.at(pair.norm));
    for (const ValuePair& pair : block.value_pairs) fold_value(pair);
    fold_query_key(block);
    maps_ = site_maps(learnables_);
    order_attention_output();
    if (method_.clusters.on) clusters_ = exact_clusters();
    for (const LinearSpec& linear : block.linears) {
      add_clipping(linear, linears_.at(linear.name).transform);
    }
    if (method_.hadamard_qk) {
      maps_[Site::kQuery] = maps_[Site::kKey] = hadamard_of_heads(config_.head_dim);
    }
  }

  /// Where a site has a map, the scales are done first: what follows them mixes the channels.
  [[nodiscard]] PreparedWeight in_basis(const LinearSpec& spec) const {
    PreparedWeight prepared{.weight = weight(spec.name),
                            .transform = linears_.at(spec.name).transform,
                            .layout = layout_of(spec)};
    const auto map = maps_.find(spec.input);
    if (map == maps_.end()) return prepared;
    prepared.weight = folded_weight(map->second, spec.name);
    prepared.transform.column_scale = prepared.transform.row_scale = at::Tensor();
    return prepared;
  }

  /// The part of the chain in front of the first transform that learns is the same in every step.
  [[nodiscard]] at::Tensor folded_weight(const transform::Chain& chain,
                                         const std::string& name) const {
    const auto learned = std::find_if(chain.begin(), chain.end(), [](const auto& transform) {
      return transform.parameter.requires_grad();
    });
    const bool keeps = fixed_ != nullptr && !learns_scales();
    at::Tensor weight = keeps ? find(*fixed_, name) : at::Tensor();
    if (!weight.defined()) weight = transform::fold({chain.begin(), learned}, scaled(name));
    if (keeps) fixed_->try_emplace(name, weight);
    return transform::fold({learned, chain.end()}, weight);
  }

  /// Asked of the leaves: what is computed from them carries no gradient where none is recorded.
  [[nodiscard]] bool learns_scales() const {
    return std::any_of(learnables_.begin(), learnables_.end(), [](const auto& learnable) {
      return learnable.second.requires_grad() && is_scale(learnable.first);
    });
  }

  /// Values in another order reach the attention output's reader in that order.
  void order_attention_output() {
    const auto values = maps_.find(Site::kValue);
    if (values == maps_.end()) return;
    transform::Transform order = values->second.front();
    order.parameter = attention_output_order(order.parameter, config_);
    maps_[Site::kOutIn] = {order};
  }

  [[nodiscard]] std::map<Site, SiteClusters> exact_clusters() const {
    std::map<Site, SiteClusters> clusters = site_clusters(learnables_);
    for (auto& [site, found] : clusters) {
      found.range = {.low = exact(found.range.low), .high = exact(found.range.high)};
    }
    return clusters;
  }

  /// What shares the weights' ranges; one run for a site without clusters.
  [[nodiscard]] quant::ClusterLayout layout_of(const LinearSpec& spec) const {
    if (!method_.clusters.on) return {};
    const auto found = clusters_.find(spec.input);
    return found == clusters_.end() ? quant::ClusterLayout::contiguous({spec.in})
                                    : found->second.layout;
  }

  [[nodiscard]] at::Tensor scaled(const std::string& name) const {
    return quant::scale_weight(weight(name), linears_.at(name).transform);
  }

  [[nodiscard]] at::Tensor quantized_weight(const std::string& name,
                                            const PreparedWeight& prepared) const {
    const at::Tensor codes = find(learnables_, codes_name(name));
    const bool clustered = !prepared.layout.runs.empty();
    if ((!codes.defined() && !clustered) || method_.weight.identity()) {
      return quant::fake_quant_weight(prepared.weight, prepared.transform, method_.weight);
    }
    quant::QuantizedWeight quantized = quantize_prepared(prepared, method_);
    if (codes.defined()) quantized.codes = codes;
    return dequantize_prepared(quantized, prepared, method_);
  }

  void add_activation_clip(Site site, EffectiveBlock& folded) const {
    const at::Tensor upper = find(learnables_, activation_upper_clip_name(site));
    if (!upper.defined()) return;
    const at::Tensor lower = learnables_.at(activation_lower_clip_name(site));
    folded.clips[site] = {.upper = exact(upper.sigmoid()), .lower = exact(lower.sigmoid())};
  }

  [[nodiscard]] const at::Tensor& weight(const std::string& name) const {
    return weights_.at(name + ".weight");
  }

  /// Biases and norms take part in float32, or in float64 beside weights of that dtype.
  [[nodiscard]] at::Tensor exact(const at::Tensor& tensor) const {
    const bool is_double =
        weight(family_.block().linears.front().name).scalar_type() == at::kDouble;
    return tensor.defined() ? tensor.to(is_double ? at::kDouble : at::kFloat) : tensor;
  }

  [[nodiscard]] EffectiveNorm stored_norm(const std::string& norm) const {
    return {exact(weight(norm)), exact(find(weights_, norm + ".bias"))};
  }

  /// gamma' = gamma / s,  beta' = (beta - delta) / s;  W' = W s,  b' = b + W delta.
  void fold_norm(const NormPair& pair, EffectiveNorm& norm) {
    const at::Tensor scale = find_scale(learnables_, pair.name);
    const at::Tensor shift = find(learnables_, shift_name(pair.name));
    if (shift.defined()) norm.bias = norm.bias.defined() ? norm.bias - shift : shift.neg();
    if (scale.defined()) {
      norm.weight = norm.weight / scale;
      if (norm.bias.defined()) norm.bias = norm.bias / scale;
    }
    for (const std::string& name : pair.consumers) {
      Linear& linear = linears_.at(name);
      linear.transform.column_scale = scale;
      linear.bias = transform::bias_with_shift(linear.bias, weight(name), shift);
    }
  }

  /// Values: W'' = W' / s by rows, b'' = (b' - delta) / s;  reader: W' = W s, b' = b + W delta,
  /// s and delta repeated for the query heads that share a value head.  Likewise the MLP's last
  /// two: act(g) (u / s) = (act(g) u) / s, and relu(u / s) = relu(u) / s.
  void fold_value(const ValuePair& pair) {
    const at::Tensor scale = find_scale(learnables_, pair.name);
    const at::Tensor shift = find(learnables_, shift_name(pair.name));
    Linear& values = linears_.at(pair.producer);
    Linear& reader = linears_.at(pair.consumer);
    if (shift.defined()) {
      values.bias = values.bias.defined() ? values.bias - shift : shift.neg();
      reader.bias =
          transform::bias_with_shift(reader.bias, weight(pair.consumer), spread(pair, shift));
    }
    if (scale.defined()) {
      divide_rows(values, scale);
      reader.transform.column_scale = spread(pair, scale);
    }
  }

  /// Queries: W'' = W' / s, b'' = b' / s;  keys: W'' = W' s, b'' = b' s; or their norms likewise.
  void fold_query_key(const BlockSpec& block) {
    const at::Tensor stored = find_scale(learnables_, kQueryKeyPair);
    if (!stored.defined()) return;
    const at::Tensor scale =
        tied_query_key(block, method_)
            ? transform::spread_rotary_pairs(stored, query_key_heads(block, config_))
            : stored;
    if (!block.query_norm.empty()) {
      norms_.at(block.query_norm).weight = norms_.at(block.query_norm).weight / scale;
      norms_.at(block.key_norm).weight = norms_.at(block.key_norm).weight * scale;
      return;
    }
    divide_rows(linears_.at(block.query), for_queries(scale));
    Linear& keys = linears_.at(block.key);
    keys.transform.row_scale = scale;
    if (keys.bias.defined()) keys.bias = keys.bias * scale;
  }

  /// Differs: a weight row is multiplied by 1/s, where the published code divides by s: at most one
  /// rounding apart, and one pass over the weight serves columns and rows.
  static void divide_rows(Linear& linear, const at::Tensor& scale) {
    linear.transform.row_scale = scale.reciprocal();
    if (linear.bias.defined()) linear.bias = linear.bias / scale;
  }

  [[nodiscard]] at::Tensor spread(const ValuePair& pair, const at::Tensor& by_producer) const {
    return pair.heads ? for_queries(by_producer) : by_producer;
  }

  [[nodiscard]] at::Tensor for_queries(const at::Tensor& by_value_head) const {
    return transform::repeat_heads(by_value_head, config_.num_key_value_heads,
                                   config_.query_groups());
  }

  void add_clipping(const LinearSpec& spec, quant::WeightTransform& transform) const {
    if (method_.weight.identity() || method_.clip == Clip::kNone) return;
    if (method_.clip == Clip::kRatio) {
      const at::Tensor& w = weight(spec.name);
      transform.clip_upper =
          at::full({spec.out * method_.weight.groups(spec.in), 1}, method_.clip_ratio, w.options());
      transform.clip_lower = transform.clip_upper;
      return;
    }
    const at::Tensor upper = find(learnables_, upper_clip_name(spec.name));
    const at::Tensor lower = find(learnables_, lower_clip_name(spec.name));
    expect(upper.defined() && lower.defined(),
           concat("clipping is learned, but ", spec.name, " has no factors"));
    transform.clip_upper = upper.sigmoid();
    transform.clip_lower = lower.sigmoid();
  }

  const Family& family_;
  const ModelConfig& config_;
  const NamedTensors& weights_;
  const NamedTensors& learnables_;
  const BlockMethod& method_;
  std::map<std::string, Linear> linears_;
  std::map<std::string, EffectiveNorm> norms_;
  std::map<Site, transform::Chain> maps_;
  NamedTensors* fixed_ = nullptr;
  std::map<Site, SiteClusters> clusters_;
};

}  // namespace

at::Tensor rotation_of(const NamedTensors& learnables, const std::string& linear) {
  at::Tensor row = find(learnables, row_rotation_name(linear));
  if (row.defined()) return row;
  const at::Tensor left = find(learnables, left_rotation_name(linear));
  if (!left.defined()) return {};
  return left.matmul(learnables.at(right_rotation_name(linear)));
}

EffectiveBlock fold(const Family& family, const NamedTensors& weights,
                    const NamedTensors& learnables, const BlockMethod& method,
                    at::ScalarType compute, NamedTensors* fixed) {
  return Folder(family, weights, learnables, method).fold(compute, fixed);
}

std::map<std::string, PreparedWeight> prepared_weights(const Family& family,
                                                       const NamedTensors& weights,
                                                       const NamedTensors& learnables,
                                                       const BlockMethod& method) {
  return Folder(family, weights, learnables, method).prepared();
}

}  // namespace lrq::models

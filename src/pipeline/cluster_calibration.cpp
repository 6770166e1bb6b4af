#include "src/pipeline/cluster_calibration.h"

#include <array>
#include <map>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/models/cluster_orders.h"
#include "src/models/clusters.h"
#include "src/models/layers.h"
#include "src/pipeline/block_method.h"
#include "src/quant/cluster_observer.h"

namespace lrq::pipeline {
namespace {

using models::Site;

models::RopeOrder rope_of(recipe::RopeOrder rope) {
  switch (rope) {
    case recipe::RopeOrder::kPairs:
      return models::RopeOrder::kPairs;
    case recipe::RopeOrder::kPost:
      return models::RopeOrder::kPost;
    case recipe::RopeOrder::kOff:
      break;
  }
  return models::RopeOrder::kOff;
}

models::ClusterOptions options_of(const recipe::ClusterRecipe& clusters) {
  return {.equal = clusters.kind == recipe::ClusterKind::kEqual,
          .norms = clusters.norms,
          .heads = clusters.heads,
          .mlp = clusters.mlp,
          .sites = clusters.sites,
          .min_cluster = clusters.min_cluster,
          .rope = rope_of(clusters.rope),
          .standardise = clusters.standardise};
}

/// [1, heads, T, D] -> [1, T, heads * D]: orders and ranges are those of all heads of a token.
at::Tensor merged(const at::Tensor& x) { return x.dim() == 4 ? models::merge_heads(x) : x; }

class Calibration {
 public:
  Calibration(const models::Family& family, const models::NamedTensors& weights,
              models::NamedTensors learnables, const recipe::Recipe& recipe,
              const RoundingInputs& inputs, at::ScalarType compute)
      : family_(family),
        weights_(weights),
        recipe_(recipe),
        inputs_(inputs),
        compute_(compute),
        method_(block_method(recipe)),
        learnables_(std::move(learnables)) {
    models::truncate_scales(learnables_, method_);
  }

  [[nodiscard]] models::NamedTensors state(const models::MapKey& key) {
    models::NamedTensors state =
        models::cluster_orders(family_, channel_ranges(), options_of(recipe_.clusters), key);
    learnables_.insert(state.begin(), state.end());
    state.merge(cluster_ranges());
    return state;
  }

 private:
  /// The method with everything in full precision, orders included.
  [[nodiscard]] models::BlockMethod unquantized() const {
    models::BlockMethod method = method_;
    method.weight.bits = method.activation.bits = method.query.bits = method.key_value.bits = 16;
    return method;
  }

  template <typename Observe>
  void pass(const models::BlockMethod& method, const Observe& observe) const {
    const models::EffectiveBlock block =
        models::fold(family_, weights_, learnables_, method, compute_);
    const models::SiteFunction sites = models::quantizing_sites(family_, method, block);
    for (std::int64_t sample = 0; sample < inputs_.samples; ++sample) {
      (void)family_.forward(block, inputs_.read(sample), [&](Site site, const at::Tensor& x) {
        at::Tensor passing = sites(site, x);
        observe(site, merged(passing));
        return passing;
      });
    }
  }

  /// Pass A.
  [[nodiscard]] models::SiteRanges channel_ranges() const {
    models::BlockMethod method = unquantized();
    method.clusters = {};
    std::map<Site, quant::ChannelRangeObserver> observers;
    pass(method, [&](Site site, const at::Tensor& x) { observers[site].observe(x); });
    models::SiteRanges ranges;
    for (const auto& [site, observer] : observers) ranges.emplace(site, observer.range());
    return ranges;
  }

  /// Pass C.
  [[nodiscard]] models::NamedTensors cluster_ranges() const {
    std::map<Site, quant::ClusterObserver> observers;
    const quant::RangeRule rule = recipe_.clusters.range == recipe::ClusterRangeRule::kEma
                                      ? quant::RangeRule::kEma
                                      : quant::RangeRule::kMinMax;
    for (auto& [site, found] : models::site_clusters(learnables_)) {
      if (method_.clusters.dynamic || models::cluster_bits(method_, site) >= 16) continue;
      observers.emplace(site, quant::ClusterObserver(found.layout, rule));
    }
    models::NamedTensors ranges;
    if (observers.empty()) return ranges;
    pass(unquantized(), [&](Site site, const at::Tensor& x) {
      const auto observer = observers.find(site);
      if (observer != observers.end()) observer->second.observe(x);
    });
    for (const auto& [site, observer] : observers) {
      ranges.emplace(models::low_name(site), observer.range().low);
      ranges.emplace(models::high_name(site), observer.range().high);
    }
    return ranges;
  }

  const models::Family& family_;  // borrowed for one call, as all references here
  const models::NamedTensors& weights_;
  const recipe::Recipe& recipe_;
  const RoundingInputs& inputs_;
  at::ScalarType compute_;
  models::BlockMethod method_;
  models::NamedTensors learnables_;
};

}  // namespace

bool has_clusters(const recipe::Recipe& recipe) {
  return recipe.clusters.kind != recipe::ClusterKind::kOff;
}

models::NamedTensors calibrated_clusters(const models::Family& family,
                                         const models::NamedTensors& weights,
                                         const models::NamedTensors& learnables,
                                         const recipe::Recipe& recipe, const RoundingInputs& inputs,
                                         at::ScalarType compute, const models::MapKey& key) {
  const c10::NoGradGuard no_grad;
  return Calibration(family, weights, learnables, recipe, inputs, compute).state(key);
}

}  // namespace lrq::pipeline

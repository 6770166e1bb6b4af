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

class ClusterCalibration {
 public:
  ClusterCalibration(const BlockSamples& block, const models::NamedTensors& learnables)
      : block_(block),
        method_(block_method(block.recipe)),
        learnables_(models::truncated_scales(learnables, method_)) {}

  [[nodiscard]] models::NamedTensors state(const models::MapKey& key) {
    models::NamedTensors state = models::cluster_orders(block_.family, channel_ranges(),
                                                        options_of(block_.recipe.clusters), key);
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
    pass_samples(block_, learnables_, method,
                 [&](std::int64_t sample, Site site, const at::Tensor& x) {
                   observe(sample, site, merged(x));
                 });
  }

  /// Ranges that the ranks found, each its own, [n, 2, width] with zeros in the others' places; on
  /// return everybody has all.
  void share(std::map<Site, at::Tensor>& found) const {
    for (auto& [site, ranges] : found) block_.share.sum(ranges);
  }

  /// Pass A.
  [[nodiscard]] models::SiteRanges channel_ranges() const {
    models::BlockMethod method = unquantized();
    method.clusters = {};
    std::map<Site, quant::ChannelRangeObserver> observers;
    pass(method, [&](std::int64_t, Site site, const at::Tensor& x) { observers[site].observe(x); });
    std::map<Site, at::Tensor> found;
    for (const auto& [site, observer] : observers) {
      put(found[site], block_.share.place, block_.share.count, observer.range());
    }
    share(found);
    models::SiteRanges ranges;
    for (const auto& [site, of_ranks] : found) {
      ranges.emplace(site, quant::ClusterRange{.low = of_ranks.select(1, 0).amin(0),
                                               .high = of_ranks.select(1, 1).amax(0)});
    }
    return ranges;
  }

  /// Pass C.
  [[nodiscard]] models::NamedTensors cluster_ranges() const {
    std::map<Site, quant::ClusterObserver> observers;
    const quant::RangeRule rule = block_.recipe.clusters.range == recipe::ClusterRangeRule::kEma
                                      ? quant::RangeRule::kEma
                                      : quant::RangeRule::kMinMax;
    for (auto& [site, found] : models::site_clusters(learnables_)) {
      if (method_.clusters.dynamic || models::cluster_bits(method_, site) >= 16) continue;
      observers.emplace(site, quant::ClusterObserver(found.layout, rule));
    }
    models::NamedTensors ranges;
    if (observers.empty()) return ranges;
    std::map<Site, at::Tensor> found;
    pass(unquantized(), [&](std::int64_t sample, Site site, const at::Tensor& x) {
      const auto observer = observers.find(site);
      if (observer == observers.end()) return;
      put(found[site], sample, block_.samples, observer->second.range_of(x));
    });
    share(found);
    for (auto& [site, observer] : observers) {
      for (const at::Tensor& sample : found.at(site).unbind(0)) {
        observer.add({.low = sample[0], .high = sample[1]});
      }
      ranges.emplace(models::low_name(site), observer.range().low);
      ranges.emplace(models::high_name(site), observer.range().high);
    }
    return ranges;
  }

  /// Added to the zeros there: a sum with other ranks' zeros has no -0 either.
  static void put(at::Tensor& ranges, std::int64_t place, std::int64_t places,
                  const quant::ClusterRange& range) {
    if (!ranges.defined()) ranges = at::zeros({places, 2, range.low.size(0)}, range.low.options());
    ranges[place][0].add_(range.low);
    ranges[place][1].add_(range.high);
  }

  const BlockSamples& block_;  // borrowed for one call
  models::BlockMethod method_;
  models::NamedTensors learnables_;
};

}  // namespace

bool has_clusters(const recipe::Recipe& recipe) {
  return recipe.clusters.kind != recipe::ClusterKind::kOff;
}

models::NamedTensors calibrated_clusters(const BlockSamples& block,
                                         const models::NamedTensors& learnables,
                                         const models::MapKey& key) {
  const c10::NoGradGuard no_grad;
  return ClusterCalibration(block, learnables).state(key);
}

}  // namespace lrq::pipeline

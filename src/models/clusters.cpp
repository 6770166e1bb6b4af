#include "src/models/clusters.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/models/layers.h"
#include "src/models/learnables.h"

namespace lrq::models {
namespace {

constexpr std::string_view kClusterPrefix = "cluster.";
constexpr std::string_view kLayout = ".layout";

std::string name_of(Site site, std::string_view what) {
  return concat(kClusterPrefix, site_name(site), what);
}

/// Orders and quantizes what passes a site.
class ClusteredSites {
 public:
  ClusteredSites(const BlockMethod& method, const EffectiveBlock& block)
      : method_(method), maps_(block.maps) {
    values_in_order_ = maps_.contains(Site::kValue);
    for (const Site site : kAllSites) add_quantizer(site, block);
  }

  at::Tensor operator()(Site site, const at::Tensor& x) const {
    const auto map = maps_.find(site);
    const bool moves = map != maps_.end() && !(site == Site::kOutIn && values_in_order_);
    const auto quantizer = quantizers_.find(site);
    if (!moves && quantizer == quantizers_.end()) return x;
    const bool split = x.dim() == 4;
    at::Tensor flat = split ? merge_heads(x) : x;
    if (moves) flat = transform::apply(map->second, flat);
    if (quantizer != quantizers_.end()) flat = quantizer->second.apply(flat);
    return split ? split_heads(flat, x.size(1)) : flat;
  }

 private:
  struct Quantizer {
    quant::ClusterLayout layout;
    quant::ClusterGrid grid;
    at::Tensor step;  // [C], undefined if dynamic
    at::Tensor zero;

    [[nodiscard]] at::Tensor apply(const at::Tensor& x) const {
      if (!step.defined()) return quant::fake_quant_clusters(x, layout, grid);
      return quant::fake_quant_static(x, step, zero, grid.bits);
    }
  };

  void add_quantizer(Site site, const EffectiveBlock& block) {
    const quant::ClusterGrid grid = cluster_grid(method_, site);
    if (grid.identity()) return;
    const auto found = block.clusters.find(site);
    const bool known = found != block.clusters.end() &&
                       (method_.clusters.dynamic || found->second.range.low.defined());
    expect(known, concat("the clusters at ", site_name(site), " were not calibrated"));
    Quantizer quantizer{.layout = found->second.layout, .grid = grid, .step = {}, .zero = {}};
    if (!method_.clusters.dynamic) {
      const auto [step, zero] = quant::cluster_step_and_zero(found->second.range, grid);
      quantizer.step = quant::spread(step, quantizer.layout);
      quantizer.zero = quant::spread(zero, quantizer.layout);
    }
    quantizers_.emplace(site, std::move(quantizer));
  }

  BlockMethod method_;
  std::map<Site, transform::Chain> maps_;
  std::map<Site, Quantizer> quantizers_;
  bool values_in_order_ = false;
};

}  // namespace

std::string layout_name(Site site) { return name_of(site, kLayout); }
std::string low_name(Site site) { return name_of(site, ".low"); }
std::string high_name(Site site) { return name_of(site, ".high"); }
bool is_cluster_state(const std::string& learnable) {
  return learnable.starts_with(kClusterPrefix);
}
bool is_layout(const std::string& learnable) {
  return is_cluster_state(learnable) && learnable.ends_with(kLayout);
}

at::Tensor stored_layout(const quant::ClusterLayout& layout) {
  std::vector<std::int64_t> numbers;
  for (const auto& run : layout.runs) {
    numbers.insert(numbers.end(), {run.cluster, run.channels});
  }
  return at::tensor(numbers, at::device(at::kCPU).dtype(at::kLong)).view({-1, 2});
}

quant::ClusterLayout restored_layout(const at::Tensor& stored) {
  expect(stored.dim() == 2 && stored.size(1) == 2 && stored.scalar_type() == at::kLong &&
             stored.device().is_cpu(),
         "a layout is [runs, 2] int64 in host memory");
  const at::Tensor runs = stored.contiguous();
  const auto* number = runs.const_data_ptr<std::int64_t>();
  quant::ClusterLayout layout;
  for (std::int64_t run = 0; run < runs.size(0); ++run, number += 2) {
    layout.runs.push_back({.cluster = number[0], .channels = number[1]});
  }
  return layout;
}

std::map<Site, SiteClusters> site_clusters(const NamedTensors& learnables) {
  std::map<Site, SiteClusters> clusters;
  for (const Site site : kAllSites) {
    const at::Tensor layout = find(learnables, layout_name(site));
    if (!layout.defined()) continue;
    clusters[site] = {.layout = restored_layout(layout),
                      .range = {.low = find(learnables, low_name(site)),
                                .high = find(learnables, high_name(site))}};
  }
  return clusters;
}

int cluster_bits(const BlockMethod& method, Site site) {
  switch (site) {
    case Site::kQkvIn:
    case Site::kMlpIn:
      return method.activation.identity()
                 ? method.activation.bits
                 : std::max(method.clusters.norm_bits, method.activation.bits);
    case Site::kQuery:
      return method.query.bits;
    case Site::kKey:
    case Site::kValue:
      return method.key_value.bits;
    case Site::kOutIn:
    case Site::kDownIn:
      break;
  }
  return method.activation.bits;
}

quant::ClusterGrid cluster_grid(const BlockMethod& method, Site site) {
  return {.bits = cluster_bits(method, site),
          .levels = method.clusters.levels,
          .range_floor = method.clusters.range_floor};
}

quant::ClusterGrid cluster_weight_grid(const BlockMethod& method) {
  return {.bits = method.weight.bits, .levels = method.clusters.levels, .range_floor = 0.0};
}

at::Tensor attention_output_order(const at::Tensor& value_order, const ModelConfig& config) {
  const std::int64_t heads = config.num_key_value_heads;
  const at::Tensor first = at::arange(heads, value_order.options()).unsqueeze(1) * config.head_dim;
  const at::Tensor within = value_order.view({heads, config.head_dim}) - first;
  const at::Tensor query =
      at::arange(config.num_attention_heads, value_order.options()).unsqueeze(1);
  return (within.repeat_interleave(config.query_groups(), 0) + query * config.head_dim).flatten();
}

quant::QuantizedWeight quantize_prepared(const PreparedWeight& prepared,
                                         const BlockMethod& method) {
  if (prepared.layout.runs.empty()) {
    return quant::quantize_weight(prepared.weight, prepared.transform, method.weight);
  }
  return quant::quantize_weight_clusters(quant::scale_weight(prepared.weight, prepared.transform),
                                         prepared.layout, cluster_weight_grid(method));
}

at::Tensor dequantize_prepared(const quant::QuantizedWeight& quantized,
                               const PreparedWeight& prepared, const BlockMethod& method) {
  if (prepared.layout.runs.empty()) return quant::dequantized(quantized, method.weight);
  const at::Tensor codes = quantized.codes.to(quantized.step.scalar_type());
  return (codes - quant::spread(quantized.zero, prepared.layout)) *
         quant::spread(quantized.step, prepared.layout);
}

SiteFunction clustered_sites(const BlockMethod& method, const EffectiveBlock& block) {
  return ClusteredSites(method, block);
}

}  // namespace lrq::models

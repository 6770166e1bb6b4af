#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"

namespace lrq::models {

/// The tensors of a site's clusters in a block file:
///   cluster.<site>.layout [runs, 2] int64 in host memory: cluster and length of each run of
///   channels, in the
///     order that the site's map makes (ClusterLayout)
///   cluster.<site>.low, .high [g] float32: static ranges; absent where none are needed
/// A head's channels lie together: at kQuery, kKey and kValue C = heads * D.
/// The order itself is map.<site>.00.permutation (site_maps.h); that of Site::kOutIn follows from
/// map.value.00.permutation and is not stored.
[[nodiscard]] std::string layout_name(Site site);
[[nodiscard]] std::string low_name(Site site);
[[nodiscard]] std::string high_name(Site site);
[[nodiscard]] bool is_cluster_state(const std::string& learnable);
[[nodiscard]] bool is_layout(const std::string& learnable);
[[nodiscard]] at::Tensor stored_layout(const quant::ClusterLayout& layout);
[[nodiscard]] quant::ClusterLayout restored_layout(const at::Tensor& stored);

/// The clusters of every site for which the learnables hold them.
[[nodiscard]] std::map<Site, SiteClusters> site_clusters(const NamedTensors& learnables);

/// Bits of what passes a site.  Norm outputs (kQkvIn, kMlpIn): max(norm_bits, activation.bits)
/// where activations are quantized at all.
[[nodiscard]] int cluster_bits(const BlockMethod& method, Site site);

/// The grid of a site's clusters, and that of the weights' (a range for each row and cluster).
[[nodiscard]] quant::ClusterGrid cluster_grid(const BlockMethod& method, Site site);
[[nodiscard]] quant::ClusterGrid cluster_weight_grid(const BlockMethod& method);

/// The order of the attention output [H * D] that an order of the values [Hkv * D] makes: each
/// query head takes that of the value head that it shares.
[[nodiscard]] at::Tensor attention_output_order(const at::Tensor& value_order,
                                                const ModelConfig& config);

/// Quantize a weight, whatever shares its ranges: by the grid, or by row and cluster.
[[nodiscard]] quant::QuantizedWeight quantize_prepared(const PreparedWeight& prepared,
                                                       const BlockMethod& method);
/// (codes - zero) * step, [O, I].
[[nodiscard]] at::Tensor dequantize_prepared(const quant::QuantizedWeight& quantized,
                                             const PreparedWeight& prepared,
                                             const BlockMethod& method);

/// The site function of a block with clusters: put what passes a site in the site's order, then
/// quantize it on the static range of each cluster (or on that of each token and cluster).
/// The attention output arrives in order where the values have one.
/// Source: RPTQ (Yuan et al. 2023).  Differs: orders of producers' rows are applied here, on-line,
/// to what the rows produce; dynamic ranges are those of a token, not of a sample.
/// x [1, heads, T, D] or [1, T, C]; a site in order returns them in the same shape.
/// Throws BugError where a static range is missing.
[[nodiscard]] SiteFunction clustered_sites(const BlockMethod& method, const EffectiveBlock& block);

}  // namespace lrq::models

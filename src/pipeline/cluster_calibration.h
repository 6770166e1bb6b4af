#pragma once

#include "src/models/quant_block.h"
#include "src/models/site_maps.h"
#include "src/pipeline/block_samples.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// Cluster the channels of a finished block and find the static ranges of its clusters:
///   A  a pass of the unquantized block over the inputs: extrema of each channel at each site
///   B  clusters and orders (models::cluster_orders)
///   C  a pass in these orders, probabilities rounded and nothing else: ranges of the clusters,
///      where something static is quantized
/// Rounding the weights (gptq_rounding.h) and the pass that makes the next block's inputs follow.
/// Source: RPTQ (Yuan et al. 2023); docs/methods.md, "Clusters (RPTQ)".
/// learnables: finished, folded in every pass.  Ranks that share the samples get what one gets.
/// Returns maps, layouts and ranges by name (models/cluster_orders.h, models/clusters.h).
/// Throws NumericError (statistics that are not finite).
[[nodiscard]] models::NamedTensors calibrated_clusters(const BlockSamples& block,
                                                       const models::NamedTensors& learnables,
                                                       const models::MapKey& key);

/// Whether a recipe has clusters.
[[nodiscard]] bool has_clusters(const recipe::Recipe& recipe);

}  // namespace lrq::pipeline

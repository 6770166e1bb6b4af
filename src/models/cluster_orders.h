#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "src/models/family.h"
#include "src/models/site_maps.h"
#include "src/quant/cluster_quant.h"

namespace lrq::models {

/// What an order of rotary queries and keys keeps together.
enum class RopeOrder {
  kPairs,  ///< channels j and j + D/2, which turn together: rows could be moved, with the angles
  kPost,   ///< nothing: the order is that of the turned queries and keys
  kOff,    ///< no order; a range for each head
};

/// How the channels of a block are clustered.  A value, copied freely.
struct ClusterOptions {
  bool equal = false;       ///< parts of equal size by range, not k-means
  std::int64_t norms = 32;  ///< clusters of R1 and R4
  std::int64_t heads = 4;   ///< of each head in R2 and R3
  std::int64_t mlp = 32;    ///< of R5
  std::string sites = "12345";
  std::int64_t min_cluster = 8;  ///< channels
  RopeOrder rope = RopeOrder::kPairs;
  bool standardise = false;
};

/// Extrema of each channel at each site, [C]; heads one after the other.
using SiteRanges = std::map<Site, quant::ClusterRange>;

/// Cluster the channels of a block and put those of a cluster side by side:
///   R1 kQkvIn, R4 kMlpIn, R5 kDownIn: points (high, low)
///   R2 kQuery and kKey, one order for a key head and the queries that share it: (high, low) of the
///      key and of the queries, largest and smallest over these, before they are scaled; pairs:
///      both members' numbers, and a cluster has a run in each half of its head
///   R3 kValue and kOutIn, one order for a value head: (high, low) at kOutIn of each of the query
///      heads that share it, side by side
/// A site that options.sites leaves out keeps its order and is one cluster (kOff: one a head).
/// Source: RPTQ (Yuan et al. 2023).  Differs: rotary families and shared heads are ours; the order
/// within a cluster is the channels' own, and clusters are numbered by first members.
/// ranges: of all sites.  key: seeds draw_key(seed, {block, digit of R, head}).
/// Returns "map.<site>.00.permutation" [C] int64 and "cluster.<site>.layout" (clusters.h); that of
/// kOutIn without its map, which follows from the values'.
[[nodiscard]] NamedTensors cluster_orders(const Family& family, const SiteRanges& ranges,
                                          const ClusterOptions& options, const MapKey& key);

}  // namespace lrq::models

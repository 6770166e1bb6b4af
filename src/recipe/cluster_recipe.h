#pragma once

#include <string>

namespace lrq::recipe {

enum class ClusterKind { kOff, kKmeans, kEqual };
enum class ClusterRangeRule { kMinmax, kEma };
enum class ClusterLevels { kAll, kOneMore };
enum class RopeOrder { kPairs, kPost, kOff };

/// Channels in clusters of similar range, each with a grid of its own (RPTQ).  Sites by number: 1
/// the attention norm's output, 2 queries and keys, 3 values and attention output, 4 the MLP norm's
/// output, 5 the MLP's hidden channels.
struct ClusterRecipe {
  ClusterKind kind = ClusterKind::kOff;
  int norms = 32;               ///< clusters of sites 1 and 4
  int heads = 4;                ///< of each head at sites 2 and 3
  int mlp = 32;                 ///< of site 5
  std::string sites = "12345";  ///< that are re-ordered; another has one range a tensor
  int min_cluster = 8;          ///< channels; smaller clusters are merged.  1: parity
  ClusterRangeRule range = ClusterRangeRule::kMinmax;  ///< over samples; ema: parity
  double range_floor = 1.0 / 256;  ///< least range, as a part of the tensor's.  0: parity
  ClusterLevels levels = ClusterLevels::kAll;  ///< one_more: ranges divided by 2^b, parity
  bool dynamic = false;                ///< ranges of each token instead of the calibration's
  int norm_out_bits = 8;               ///< least bits at sites 1 and 4; 0: as activations.bits
  bool probabilities = true;           ///< of attention at 8 bits, unless activations.bits is 16
  RopeOrder rope = RopeOrder::kPairs;  ///< what an order of rotary queries and keys keeps together
  bool standardise = false;  ///< divide queries and keys by their largest value before clustering
};

}  // namespace lrq::recipe

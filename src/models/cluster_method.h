#pragma once

#include "src/quant/cluster_quant.h"

namespace lrq::models {

/// Static quantizers of clusters of channels: part of a block's method.
struct ClusterMethod {
  bool on = false;
  quant::ClusterLevels levels = quant::ClusterLevels::kAll;  ///< of activations and weights
  double range_floor = 1.0 / 256;                            ///< of activations
  bool dynamic = false;        ///< ranges of each token, not of the calibration
  int norm_bits = 0;           ///< least bits of norm outputs that are quantized; 0: activation's
  bool probabilities = false;  ///< round those of attention to k / 255
};

/// The clusters of one site, in its order, and the ranges that calibration found.
struct SiteClusters {
  quant::ClusterLayout layout;
  quant::ClusterRange range;  ///< [g]; undefined where nothing static is quantized
};

}  // namespace lrq::models

#pragma once

#include "src/base/ids.h"

namespace lrq::pipeline {

/// How far the blocks of a wave, run one after the other from the wave's own input, are from the
/// full-precision chain, over the samples.
struct PropagatedLoss {
  BlockIndex block;
  double mse_mean = 0.0;
  double mse_median = 0.0;
  double nlc_mean = 0.0;
  double nlc_median = 0.0;
};

}  // namespace lrq::pipeline

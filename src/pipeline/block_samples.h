#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"
#include "src/pipeline/sample_share.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// A block and the samples that reach it: what clustering and rounding work on once its learnables
/// are final.  References are borrowed for one call.
struct BlockSamples {
  const models::Family& family;
  const models::NamedTensors& weights;
  const recipe::Recipe& recipe;
  std::int64_t samples = 0;                             ///< N, of all ranks that share them
  std::function<at::Tensor(std::int64_t sample)> read;  ///< [1, T, C]
  at::ScalarType compute = at::kFloat;
  SampleShare share = {};
};

/// Send this rank's samples through the block as `method` folds it, one at a time in order. observe
/// sees what leaves each site, in its basis and quantized if method says so.  learnables: truncated
/// (models::truncated_scales).
using ObserveSite =
    std::function<void(std::int64_t sample, models::Site site, const at::Tensor& leaving)>;
void pass_samples(const BlockSamples& block, const models::NamedTensors& learnables,
                  const models::BlockMethod& method, const ObserveSite& observe);

}  // namespace lrq::pipeline

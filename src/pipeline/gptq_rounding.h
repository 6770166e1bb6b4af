#pragma once

#include "src/pipeline/block_samples.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// Round the weights of a finished block by GPTQ instead of to the nearest level: the grid is that
/// of its learnables, the Hessian of a linear that of its inputs in the site's basis
/// (gptq.inputs: as quantized, or before the quantizer).  gptq.sequential: site after site, so that
/// what reaches a linear comes from linears that are rounded already.
/// learnables: finished.  Returns "<linear>.codes" [O, I], uint8 (int32 above 8 bits), for fold().
/// Source: GPTQ; docs/methods.md, "GPTQ rounding".  Throws NumericError (a Hessian that is not
/// finite).  Ranks that share the samples also take turns at the linears of a site, and all get the
/// codes of one rank alone.
[[nodiscard]] models::NamedTensors gptq_codes(const BlockSamples& block,
                                              const models::NamedTensors& learnables);

/// Whether a recipe rounds so.
[[nodiscard]] bool rounds_by_gptq(const recipe::Recipe& recipe);

}  // namespace lrq::pipeline

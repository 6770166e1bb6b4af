#pragma once

#include "io/tensor_file.h"
#include "src/export/bias_plan.h"
#include "src/models/quant_block.h"

namespace lrq::exporter {

/// Make the tensors of block k as an exported folder holds them, float32, by full checkpoint name:
/// folded and fake-quantized by models::fold, biases moved to where `plan` has a place.
///   b' + W^ beta'  where a norm's bias beta' has none, W^ being the de-quantized weight
/// weights: the original block, by names within the block.  learnables: its block file's tensors.
/// What the block has beside linears and norms, and what nothing was folded into, is unchanged.
/// Throws BugError if a bias that is not zero has no place in `plan`.
[[nodiscard]] models::NamedTensors folded_block(const models::Family& family, BlockIndex k,
                                                const models::NamedTensors& weights,
                                                models::NamedTensors learnables,
                                                const models::BlockMethod& method,
                                                const BiasPlan& plan);

}  // namespace lrq::exporter

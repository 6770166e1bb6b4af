#pragma once

#include <ATen/core/Tensor.h>

#include "src/quant/grid.h"

namespace lrq::quant {

/// Start value of a raw clip factor: sigmoid(4) = 0.982.
inline constexpr double kClipStart = 4.0;

/// Make one raw factor per range of a weight [O, I]: [O * G, 1] float32, all kClipStart.
/// Source: OmniQuant, learnable weight clipping.
[[nodiscard]] at::Tensor initial_clip_factor(std::int64_t out, std::int64_t in, const Grid& grid,
                                             const at::Device& device);

}  // namespace lrq::quant

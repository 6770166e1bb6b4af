#include "src/quant/clipping.h"

#include <ATen/ATen.h>

namespace lrq::quant {

at::Tensor initial_clip_factor(std::int64_t out, std::int64_t in, const Grid& grid,
                               const at::Device& device) {
  return at::full({out * grid.groups(in), 1}, kClipStart,
                  at::TensorOptions().dtype(at::kFloat).device(device));
}

}  // namespace lrq::quant

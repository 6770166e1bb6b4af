#include "src/transform/zigzag.h"

#include <ATen/ATen.h>

#include "src/base/check.h"

namespace lrq::transform {

at::Tensor zigzag_permutation(const at::Tensor& absmax, std::int64_t bins) {
  expect(absmax.dim() == 1 && bins > 0 && absmax.size(0) % bins == 0,
         "a zigzag permutation deals [C] channels to bins of equal size");
  const at::Tensor order =
      std::get<1>(absmax.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
  at::Tensor laps = order.reshape({-1, bins}).clone();  // one channel for each bin
  at::Tensor backward = laps.slice(0, 1, laps.size(0), 2);
  backward.copy_(backward.flip(1));
  return laps.t().reshape({-1});
}

}  // namespace lrq::transform

#pragma once

#include <ATen/ATen.h>

namespace lrq::pipeline {

/// `yes` where the [] bool `condition` holds, else `no`, decided on the device: entries of the one
/// that is not taken are zeroed first, so a NaN in it leaves no trace.  (at::where would do, but
/// has no meta form in C++.)
[[nodiscard]] inline at::Tensor select(const at::Tensor& condition, const at::Tensor& yes,
                                       const at::Tensor& no) {
  return yes.masked_fill(condition.bitwise_not(), 0) + no.masked_fill(condition, 0);
}

}  // namespace lrq::pipeline

#pragma once

#include <ATen/core/Tensor.h>

namespace lrq::quant {

/// Channel statistics of the tensor that enters a linear layer.
///   absmax_c = max over all tokens of all samples of |x_c|          (exact in any order)
///   shift_c  = first sample: m_c, then 0.99 * shift_c + 0.01 * m_c  (sample order matters)
///   m_c      = (max over tokens of x_c + min over tokens of x_c) / 2, per sample
/// Source: SmoothQuant, Outlier Suppression+ (docs/methods.md, "Statistics").
class ChannelObserver {
 public:
  /// x [1, T, C]: one sample; call in sample order.  Threads: one at a time.
  void observe(const at::Tensor& x);
  [[nodiscard]] const at::Tensor& absmax() const { return absmax_; }  ///< [C] float32
  [[nodiscard]] const at::Tensor& shift() const { return shift_; }    ///< [C] float32

 private:
  at::Tensor absmax_;
  at::Tensor shift_;
};

}  // namespace lrq::quant

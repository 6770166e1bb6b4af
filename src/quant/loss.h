#pragma once

#include <ATen/core/Tensor.h>

namespace lrq::quant {

enum class NlcReduction { kTokenMeanThenLog, kTokenLogThenMean, kFlattened };

struct NlcOptions {
  NlcReduction reduction = NlcReduction::kTokenMeanThenLog;
  bool absolute = false;  ///< parity with the published code: -log |mean cos|, no floor
};

/// Compute the negative-log-cosine distance of a quantized block's output from its target.
///   L = -log( max( mean over b,t of cos(q[b,t,:], f[b,t,:]), 1e-6 ) )
///   cos = <q, f> / (max(|q|, 1e-8) * max(|f|, 1e-8))
/// Source: LRQuant, NLC loss.  Differs: the published code takes |mean|, so an output turned fully
/// around would score as perfect; here a mean below 1e-6 costs 13.8155106 and passes no gradient
/// (options.absolute restores the published form).  A NaN mean stays NaN.
/// q [B, T, C] carries gradient.  f [B, T, C] no gradient.  Computed in float32 (float64 if given).
/// Returns [] on q's device.  Throws BugError if shape or device differ.  Threads: any.
[[nodiscard]] at::Tensor nlc_loss(const at::Tensor& q, const at::Tensor& f,
                                  const NlcOptions& options = {});

/// Compute the mean of the squared differences over all entries; shapes and dtypes as nlc_loss.
/// Call it as quant::mse_loss: argument-dependent look-up also finds at::mse_loss.
[[nodiscard]] at::Tensor mse_loss(const at::Tensor& q, const at::Tensor& f);

}  // namespace lrq::quant

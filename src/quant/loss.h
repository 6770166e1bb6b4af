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

enum class MassiveTokens { kKeep, kDownweight, kDrop };

/// How much a token counts in the mean squared error.  By default every entry counts the same.
struct TokenWeightOptions {
  bool by_energy = false;  ///< divide each token's error by its target's mean square
  MassiveTokens massive = MassiveTokens::kKeep;
  double massive_above = 10.0;  ///< times the median norm of the sample's tokens
};

/// Weigh the tokens of a sample by their targets.  With e_t = mean over c of f[b,t,c]^2 and m the
/// median over t of sqrt(e_t), a token is massive where sqrt(e_t) > massive_above * m.
///   by_energy:   w_t = 1 / max(e_t, 1e-12)
///   kDownweight: a massive token's w_t is multiplied by (massive_above * m)^2 / e_t: its error
///                counts as that of a token at the bound would
///   kDrop:       w_t = 0 for a massive token, the others times T / (T - massive tokens)
/// A few tokens (attention sinks) can be 200 times as large as the rest and own the whole error.
/// Source: our own.  f [B, T, C].  Returns [B, T, 1] float32 (float64 if given) without gradient,
/// or an undefined tensor where every weight is 1.  Threads: any.
[[nodiscard]] at::Tensor token_weights(const at::Tensor& f, const TokenWeightOptions& options);

/// Compute the mean over all entries of w_t (q - f)^2; shapes and dtypes as nlc_loss.
/// weights: of token_weights; undefined: ones.
/// Call it as quant::mse_loss: argument-dependent look-up also finds at::mse_loss.
[[nodiscard]] at::Tensor mse_loss(const at::Tensor& q, const at::Tensor& f,
                                  const at::Tensor& weights = {});

}  // namespace lrq::quant

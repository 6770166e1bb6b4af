#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "src/quant/grid.h"

namespace lrq::quant {

/// How a weight is rounded.  A value, copied freely.
struct GptqOptions {
  double damping = 0.01;     ///< part of the mean of diag(H) that is added to it
  bool act_order = false;    ///< columns by falling diag(H) instead of from left to right
  std::int64_t block = 128;  ///< columns whose effect on the later ones is applied in one product
  std::string name = {};     ///< the weight, for errors
};

struct GptqResult {
  at::Tensor codes;   ///< [O, I] int32, 0 .. 2^b - 1, columns in the weight's own order
  at::Tensor weight;  ///< [O, I], (codes - zero) * step, the weight's dtype
  double loss;        ///< 1/2 * trace((W - Q) H' (W - Q)^T), H' the damped Hessian
  double damping;     ///< what made H' positive definite
};

/// Round a weight column by column, each column's error made good by the columns still to come:
///   dead = diag(H) == 0:  H_dd = 1, W[:, dead] = 0;     H' = H + damping * mean(diag H) * I
///   U upper triangular, U^T U = H'^-1
///   for column i:  q = Q(W[:, i]),  e = (W[:, i] - q) / U_ii,  W[:, j] -= e U_ij for j > i
///   loss = 1/2 * sum e^2
///   Q(w) = (clamp(round(w / step) + zero, 0, 2^b - 1) - zero) * step, ties to even
/// Columns that share a range need not be neighbours: steps are fixed beforehand, so act_order
/// leaves storage alone.
/// Source: GPTQ (Frantar et al. 2022).
/// Differs: U comes from one Cholesky factorization of the reversed H' and a triangular solve, not
/// from two around an inverse: the same matrix, less error.  A factorization that fails is tried
/// again with ten times the damping, up to 1; the published code stops.
/// U is computed in float64 up to 16384 columns, above (where it would take 6 GiB and more) in
/// float32; the updates run in the weight's dtype.
/// weight [O, I] float32 or float64.   hessian [I, I] float32 or float64, symmetric.
/// grid: its bits, and its group_size where column_group is undefined.
/// step, zero [O, G], the weight's dtype; zero in unsigned codes, whole numbers.
/// column_group [I] int64, 0 .. G - 1, the range of each column; undefined: i / group_size.
/// Returns tensors on the weight's device; inputs are left alone.
/// Throws BugError on shapes, NumericError on a Hessian that is not finite or stays indefinite.
/// Threads: any.
[[nodiscard]] GptqResult gptq(const at::Tensor& weight, const at::Tensor& hessian, const Grid& grid,
                              const at::Tensor& step, const at::Tensor& zero,
                              const GptqOptions& options = {}, const at::Tensor& column_group = {});

}  // namespace lrq::quant

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/models/family.h"

namespace lrq::models {

/// Pieces of a forward pass that families share.  `exact` is the dtype of everything but products.

/// float64 for float64, else float32.
[[nodiscard]] at::ScalarType exact_dtype(const at::Tensor& x);

/// The tensor of that name.  Throws BugError if it was not given.
[[nodiscard]] const at::Tensor& tensor_of(const NamedTensors& tensors, const std::string& name);

/// The checkpoint's tensors of linears: "<prefix><name>.weight", and ".bias" where there is one.
[[nodiscard]] std::vector<TensorSpec> linear_tensors(const std::string& prefix,
                                                     const std::vector<LinearSpec>& linears);

/// x / sqrt(mean(x^2) + eps) * weight + bias over the last axis.  weight, bias [C]; bias may be
/// undefined.
[[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& bias, double eps);

/// x W' + b.  x [1, T, I] in the dtype of the weight.  Returns [1, T, O] in `exact`.
[[nodiscard]] at::Tensor apply_linear(const EffectiveLinear& linear, const at::Tensor& x,
                                      at::ScalarType exact);

/// [1, T, H * D] -> [1, H, T, D] contiguous, and back.
[[nodiscard]] at::Tensor split_heads(const at::Tensor& x, std::int64_t heads);
[[nodiscard]] at::Tensor merge_heads(const at::Tensor& x);

/// Repeat key/value heads for the query heads that share them: [1, G, T, D] -> [1, G * n, T, D].
[[nodiscard]] at::Tensor repeat_shared(const at::Tensor& x, std::int64_t n);

struct AttentionRule {
  std::optional<double> scale;         ///< of q k'; none: 1 / sqrt(D)
  std::optional<std::int64_t> window;  ///< positions seen, one's own included; none: all before
  bool round_probabilities = false;    ///< to k / 255 (quant::fake_quant_probabilities)
};
/// softmax(scale q k') v, causal.  q, k, v [1, H, T, D] of one dtype.  Probabilities are rounded
/// in float32 (float64 for float64), and the two products are in the operands' dtype.
[[nodiscard]] at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const AttentionRule& rule);

}  // namespace lrq::models

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace lrq::transform {

/// How one kind of change of basis acts on the C channels of a linear layer's input, given the one
/// tensor that says all about it: y = x W' + b = apply(x) fold(W)' + (b + bias_term(W)), in real
/// arithmetic exactly.  x [..., C], weight [O, C], contiguous, float32 or float64; gradients flow
/// through x, the weight and, where it is a float tensor, the parameter, which is taken in the
/// operand's dtype.  Parameters are on their operands' device, but for the size of a Hadamard
/// matrix, which the host reads.  Results are contiguous; one may be the operand itself.
/// Throws BugError on shapes that do not fit.  Threads: any.
struct Kind {
  std::string_view name;  ///< as in a block file: "rotation"
  at::Tensor (*apply)(const at::Tensor& parameter, const at::Tensor& x);
  at::Tensor (*invert)(const at::Tensor& parameter, const at::Tensor& x);
  at::Tensor (*fold)(const at::Tensor& parameter, const at::Tensor& weight);
  at::Tensor (*unfold)(const at::Tensor& parameter, const at::Tensor& weight);
  /// [O], what the bias gains; null where it gains nothing.  weight: before fold.
  at::Tensor (*bias_term)(const at::Tensor& parameter, const at::Tensor& weight);
  bool orthogonal = false;  ///< then fold is apply and unfold is invert
  /// What is wrong with a parameter for C channels, "" if nothing: shape, dtype, invariants.
  std::string (*problem)(const at::Tensor& parameter, std::int64_t channels);
};

/// One change of basis: a value, copied freely.
struct Transform {
  const Kind* kind = nullptr;  // Owns: borrowed from the registry, which lives for ever
  at::Tensor parameter;
};

/// Transforms of one site, in the order in which they act on an activation.
using Chain = std::vector<Transform>;

/// Send an activation [..., C] through the chain, or back.  Write transform::apply: a chain is a
/// std::vector, so that the bare name may mean std::apply.
[[nodiscard]] at::Tensor apply(const Chain& chain, at::Tensor x);
[[nodiscard]] at::Tensor invert(const Chain& chain, at::Tensor x);
/// Send a weight [O, C] through the chain (in the same order), or back.
[[nodiscard]] at::Tensor fold(const Chain& chain, at::Tensor weight);
[[nodiscard]] at::Tensor unfold(const Chain& chain, at::Tensor weight);
/// What a bias gains over the whole chain, [O], or undefined if nothing.  weight: before fold.
[[nodiscard]] at::Tensor bias_term(const Chain& chain, const at::Tensor& weight);

/// Every kind there is.
[[nodiscard]] const std::vector<const Kind*>& kinds();
/// The kind with that name, or null.
[[nodiscard]] const Kind* find_kind(std::string_view name);

}  // namespace lrq::transform

#include "src/quant/loss.h"

#include <optional>
#include <tuple>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "src/base/check.h"

namespace lrq::quant {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kSmallestNorm = 1e-8;
constexpr double kCosineFloor = 1e-6;
constexpr double kSmallestEnergy = 1e-12;

void check(const Tensor& q, const Tensor& f) {
  expect(q.dim() == 3 && q.numel() > 0, "a block's output is [B, T, C] and not empty");
  expect(q.sizes() == f.sizes(), "output and target have the same shape");
  expect(q.device() == f.device(), "output and target lie on the same device");
}

// float32, or float64 where one of the two is; the cast carries q's gradient.
at::ScalarType loss_dtype(const Tensor& q, const Tensor& f) {
  const bool wide = q.scalar_type() == at::kDouble || f.scalar_type() == at::kDouble;
  return wide ? at::kDouble : at::kFloat;
}

// Cosine of each row with its target.  Written out because the composite of ATen operations keeps
// and reads about three times as many full-size tensors.
struct RowCosine : torch::autograd::Function<RowCosine> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& f) {
    const Tensor q_norm = at::linalg_vector_norm(q, 2, 1, /*keepdim=*/true);
    const Tensor f_norm = at::linalg_vector_norm(f, 2, 1, /*keepdim=*/true);
    const Tensor product = q_norm.clamp_min(kSmallestNorm) * f_norm.clamp_min(kSmallestNorm);
    const Tensor cosine = (q * f).sum(1, /*keepdim=*/true) / product;
    ctx->save_for_backward({q, f, q_norm, product, cosine});
    return cosine;
  }
  // d cos / dq = f / (|q| |f|) - cos * q / |q|^2; the second term is missing below the floor of
  // |q|.
  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &f = saved[1], &q_norm = saved[2], &grad = grad_out[0];
    const Tensor along =
        (grad * saved[4] / q_norm.square()).masked_fill(q_norm.lt(kSmallestNorm), 0);
    return {(f * (grad / saved[3])).sub_(q * along), Tensor()};
  }
};

// at::mse_loss, whose way back does not run on the meta device, with the weighted difference kept.
struct SquaredError : torch::autograd::Function<SquaredError> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& f,
                        const std::optional<Tensor>& weights) {
    const Tensor difference = q - f;
    const Tensor weighted = weights ? difference * *weights : difference;
    ctx->save_for_backward({weighted});
    return (difference * weighted).mean();
  }
  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const Tensor weighted = ctx->get_saved_variables()[0];
    const double share = 2.0 / static_cast<double>(weighted.numel());
    return {weighted * (grad_out[0] * share), Tensor(), Tensor()};
  }
};

// -log of a cosine or of a mean of cosines.
Tensor negative_log(const Tensor& cosine, const NlcOptions& options) {
  if (options.absolute) return cosine.abs().log().neg();
  // masked_fill, not clamp: it keeps a NaN, and its gradient at the floor depends on no version.
  return cosine.masked_fill(cosine.lt(kCosineFloor), kCosineFloor).log().neg();
}

}  // namespace

Tensor nlc_loss(const Tensor& q, const Tensor& f, const NlcOptions& options) {
  check(q, f);
  const at::ScalarType dtype = loss_dtype(q, f);
  const bool flat = options.reduction == NlcReduction::kFlattened;
  const std::int64_t rows = flat ? 1 : q.size(0) * q.size(1);
  const Tensor cosine =
      RowCosine::apply(q.to(dtype).reshape({rows, -1}), f.detach().to(dtype).reshape({rows, -1}));
  if (options.reduction == NlcReduction::kTokenLogThenMean) {
    return negative_log(cosine, options).mean();
  }
  return negative_log(cosine.mean(), options);
}

Tensor token_weights(const Tensor& f, const TokenWeightOptions& options) {
  if (!options.by_energy && options.massive == MassiveTokens::kKeep) return {};
  const Tensor energy = f.detach().to(loss_dtype(f, f)).square().mean(-1, /*keepdim=*/true);
  const Tensor ones = at::ones_like(energy);
  Tensor weights = options.by_energy ? energy.clamp_min(kSmallestEnergy).reciprocal() : ones;
  if (options.massive == MassiveTokens::kKeep) return weights;
  // Sorted, as at::median has no reproducible form on a GPU.  Of an even number: the lower one.
  const Tensor sorted = std::get<0>(energy.sqrt().sort(1));
  const Tensor median = sorted.narrow(1, (sorted.size(1) - 1) / 2, 1);
  const Tensor bound = (median * options.massive_above).square();
  const Tensor massive = energy > bound;
  if (options.massive == MassiveTokens::kDownweight) {
    return at::where(massive, weights * (bound / energy), weights);
  }
  const Tensor kept = at::where(massive, at::zeros_like(ones), ones);
  // The median is not massive, so one token at least is kept.
  return weights * kept / kept.mean(1, /*keepdim=*/true);
}

Tensor mse_loss(const Tensor& q, const Tensor& f, const Tensor& weights) {
  check(q, f);
  const at::ScalarType dtype = loss_dtype(q, f);
  return SquaredError::apply(
      q.to(dtype), f.detach().to(dtype),
      weights.defined() ? std::optional<Tensor>(weights.to(dtype)) : std::nullopt);
}

}  // namespace lrq::quant

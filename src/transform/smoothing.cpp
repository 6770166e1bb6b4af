#include "src/transform/smoothing.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "src/base/check.h"

namespace lrq::transform {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kSmallestStart = 1e-5;

// The published code overwrites the parameter's data outside the graph: the gradient stays whole.
struct Truncate : torch::autograd::Function<Truncate> {
  static Tensor forward(AutogradContext* /*ctx*/, const Tensor& scale) {
    const Tensor small_positive = scale.ge(0).bitwise_and(scale.lt(kSmallestScale));
    const Tensor small_negative = scale.lt(0).bitwise_and(scale.gt(-kSmallestScale));
    return scale.masked_fill(small_positive, kSmallestScale)
        .masked_fill(small_negative, -kSmallestScale);
  }
  static variable_list backward(AutogradContext* /*ctx*/, variable_list grad_out) {
    return {grad_out[0]};
  }
};

// [kv_heads * repeats * head_dim] -> [kv_heads, repeats, head_dim].
Tensor by_shared_head(const Tensor& v, std::int64_t kv_heads, std::int64_t repeats) {
  expect(v.dim() == 1 && kv_heads > 0 && repeats > 0 && v.size(0) % (kv_heads * repeats) == 0,
         "a head-wise vector is [kv_heads * repeats * head_dim]");
  return v.reshape({kv_heads, repeats, -1});
}

}  // namespace

Tensor lae_scale(const Tensor& absmax) {
  const c10::NoGradGuard no_grad;
  const Tensor a = absmax.to(at::kFloat).clamp_min(kSmallestStart);
  return (a / (a + 2).log2()).clamp_min(kSmallestStart);
}

Tensor smoothquant_scale(const Tensor& absmax, const Tensor& weight, double alpha) {
  const c10::NoGradGuard no_grad;
  expect(weight.dim() == 2 && absmax.dim() == 1 && weight.size(1) == absmax.size(0),
         "a weight is [O, C] and its input's statistic [C]");
  const Tensor w = weight.to(at::kFloat).abs().amax(0).clamp_min(kSmallestStart);
  const Tensor scale = absmax.to(at::kFloat).pow(alpha) / w.pow(1.0 - alpha);
  return scale.clamp_min(kSmallestStart);
}

Tensor truncate_scale(const Tensor& scale) { return Truncate::apply(scale); }

Tensor repeat_heads(const Tensor& v, std::int64_t kv_heads, std::int64_t repeats) {
  const Tensor heads = by_shared_head(v, kv_heads, 1);
  return heads.expand({kv_heads, repeats, heads.size(2)}).reshape({-1});
}

Tensor max_over_shared_heads(const Tensor& v, std::int64_t kv_heads, std::int64_t repeats) {
  return by_shared_head(v, kv_heads, repeats).amax(1).reshape({-1});
}

Tensor mean_over_shared_heads(const Tensor& v, std::int64_t kv_heads, std::int64_t repeats) {
  return by_shared_head(v, kv_heads, repeats).mean(1).reshape({-1});
}

Tensor spread_rotary_pairs(const Tensor& pairs, std::int64_t heads) {
  const Tensor halves = by_shared_head(pairs, heads, 1);
  return halves.expand({heads, 2, halves.size(2)}).reshape({-1});
}

}  // namespace lrq::transform

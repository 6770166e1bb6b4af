#include "src/models/layers.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/quant/cluster_quant.h"

namespace lrq::models {

at::ScalarType exact_dtype(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

const at::Tensor& tensor_of(const NamedTensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  expect(found != tensors.end(), concat("no tensor ", name, " was given"));
  return found->second;
}

std::vector<TensorSpec> linear_tensors(const std::string& prefix,
                                       const std::vector<LinearSpec>& linears) {
  std::vector<TensorSpec> specs;
  for (const LinearSpec& linear : linears) {
    specs.push_back({concat(prefix, linear.name, ".weight"), {linear.out, linear.in}});
    if (linear.bias) specs.push_back({concat(prefix, linear.name, ".bias"), {linear.out}});
  }
  return specs;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    double eps) {
  const at::Tensor scale = x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
  const at::Tensor unit = x * scale;
  return bias.defined() ? at::addcmul(bias, unit, weight) : unit * weight;
}

at::Tensor apply_linear(const EffectiveLinear& linear, const at::Tensor& x, at::ScalarType exact) {
  // The bias joins in the product's own pass where it has its dtype, and after it, in `exact`,
  // where the product is in a shorter one.
  if (linear.weight.scalar_type() == exact) {
    return at::linear(x, linear.weight,
                      linear.bias.defined() ? std::optional(linear.bias) : std::nullopt);
  }
  const at::Tensor product = at::linear(x, linear.weight).to(exact);
  return linear.bias.defined() ? product + linear.bias : product;
}

at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  return x.unflatten(-1, {heads, x.size(-1) / heads}).transpose(1, 2).contiguous();
}

at::Tensor merge_heads(const at::Tensor& x) {
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), -1});
}

at::Tensor repeat_shared(const at::Tensor& x, std::int64_t n) {
  if (n == 1) return x;
  return x.unsqueeze(2)
      .expand({x.size(0), x.size(1), n, x.size(2), x.size(3)})
      .reshape({x.size(0), x.size(1) * n, x.size(2), x.size(3)});
}

namespace {

/// [T, T]: which positions (columns) each position sees.
at::Tensor seen_by(std::int64_t tokens, std::optional<std::int64_t> window,
                   const at::Tensor& like) {
  const at::Tensor before = at::ones({tokens, tokens}, like.options().dtype(at::kBool)).tril();
  return window ? before.triu(1 - *window) : before;
}

at::Tensor attend_rounded(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const AttentionRule& rule) {
  const double scale = rule.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(-1))));
  const at::Tensor scores = at::matmul(q, k.transpose(-2, -1)).to(exact_dtype(q)) * scale;
  const at::Tensor hidden = seen_by(q.size(2), rule.window, q).logical_not();
  const at::Tensor p =
      scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1);
  return at::matmul(quant::fake_quant_probabilities(p).to(v.scalar_type()), v);
}

}  // namespace

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionRule& rule) {
  if (q.is_meta()) {  // a causal fused attention has no meta form in C++: the shapes, plainly
    return at::matmul(at::matmul(q, k.transpose(-2, -1)).softmax(-1), v);
  }
  if (rule.round_probabilities) return attend_rounded(q, k, v, rule);
  const std::int64_t tokens = q.size(2);
  if (!rule.window || *rule.window >= tokens) {
    return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/std::nullopt, /*dropout_p=*/0.0,
                                            /*is_causal=*/true, rule.scale);
  }
  return at::scaled_dot_product_attention(q, k, v, seen_by(tokens, rule.window, q),
                                          /*dropout_p=*/0.0, /*is_causal=*/false, rule.scale);
}

}  // namespace lrq::models

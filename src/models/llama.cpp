#include <optional>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/models/registry.h"
#include "src/models/rope.h"

namespace lrq::models {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kFinalNorm = "model.norm.weight";
constexpr const char* kHead = "lm_head.weight";

constexpr const char* kNorm1 = "input_layernorm";
constexpr const char* kNorm2 = "post_attention_layernorm";
constexpr const char* kQuery = "self_attn.q_proj";
constexpr const char* kKey = "self_attn.k_proj";
constexpr const char* kValue = "self_attn.v_proj";
constexpr const char* kOut = "self_attn.o_proj";
constexpr const char* kGate = "mlp.gate_proj";
constexpr const char* kUp = "mlp.up_proj";
constexpr const char* kDown = "mlp.down_proj";

BlockSpec make_block_spec(const ModelConfig& c) {
  const std::int64_t query_rows = c.num_attention_heads * c.head_dim;
  const std::int64_t value_rows = c.num_key_value_heads * c.head_dim;
  BlockSpec spec;
  spec.linears = {
      {kQuery, query_rows, c.hidden_size, c.attention_bias, Site::kQkvIn},
      {kKey, value_rows, c.hidden_size, c.attention_bias, Site::kQkvIn},
      {kValue, value_rows, c.hidden_size, c.attention_bias, Site::kQkvIn},
      {kOut, c.hidden_size, query_rows, c.attention_bias, Site::kOutIn},
      {kGate, c.intermediate_size, c.hidden_size, c.mlp_bias, Site::kMlpIn},
      {kUp, c.intermediate_size, c.hidden_size, c.mlp_bias, Site::kMlpIn},
      {kDown, c.hidden_size, c.intermediate_size, c.mlp_bias, Site::kDownIn},
  };
  spec.norms = {kNorm1, kNorm2};
  spec.norm_pairs = {
      {"qkv", kNorm1, {kQuery, kKey, kValue}, kQuery, Site::kQkvIn},
      {"fc1", kNorm2, {kGate, kUp}, kUp, Site::kMlpIn},
  };
  spec.value_pairs = {{"out", kValue, kOut, Site::kOutIn}};
  spec.query = kQuery;
  spec.key = kKey;
  return spec;
}

const at::Tensor& tensor_of(const NamedTensors& tensors, const char* name) {
  const auto found = tensors.find(name);
  expect(found != tensors.end(), concat("no tensor ", name, " was given"));
  return found->second;
}

/// The dtype of everything but products.
at::ScalarType exact_dtype(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    double eps) {
  const at::Tensor scale = x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
  const at::Tensor unit = x * scale;
  return bias.defined() ? at::addcmul(bias, unit, weight) : unit * weight;
}

/// x W' + b.  x is already in the dtype of the weight; the bias joins in the product's own pass
/// where it has that dtype, and after it in `exact` where the product is in a shorter one.
at::Tensor apply_linear(const EffectiveLinear& linear, const at::Tensor& x, at::ScalarType exact) {
  if (linear.weight.scalar_type() == exact) {
    return at::linear(x, linear.weight,
                      linear.bias.defined() ? std::optional(linear.bias) : std::nullopt);
  }
  const at::Tensor product = at::linear(x, linear.weight).to(exact);
  return linear.bias.defined() ? product + linear.bias : product;
}

/// Repeat key/value heads for the query heads that share them: [1, G, T, D] -> [1, G * n, T, D].
at::Tensor repeat_shared(const at::Tensor& x, std::int64_t n) {
  if (n == 1) return x;
  return x.unsqueeze(2)
      .expand({x.size(0), x.size(1), n, x.size(2), x.size(3)})
      .reshape({x.size(0), x.size(1) * n, x.size(2), x.size(3)});
}

/// softmax(q k' / sqrt(D)) v, causal.  q, k, v [1, H, T, D] of one dtype.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (q.is_meta()) {  // a causal fused attention has no meta form in C++: the shapes, plainly
    return at::matmul(at::matmul(q, k.transpose(-2, -1)).softmax(-1), v);
  }
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/std::nullopt, /*dropout_p=*/0.0,
                                          /*is_causal=*/true);
}

/// The LLaMA family: RMSNorm, rotary embeddings, grouped queries, gated SiLU.
class Llama final : public Family {
 public:
  explicit Llama(const ModelConfig& config)
      : config_(config), block_(make_block_spec(config)), rope_(config) {}

  [[nodiscard]] const ModelConfig& config() const override { return config_; }
  [[nodiscard]] const BlockSpec& block() const override { return block_; }

  [[nodiscard]] std::string block_prefix(BlockIndex k) const override {
    return concat("model.layers.", k.value, ".");
  }
  [[nodiscard]] std::vector<TensorSpec> block_tensors(BlockIndex k) const override;
  [[nodiscard]] std::vector<TensorSpec> embedding_tensors() const override {
    return {{kEmbedding, {config_.vocab_size, config_.hidden_size}}};
  }
  [[nodiscard]] std::vector<TensorSpec> head_tensors() const override {
    return {{kFinalNorm, {config_.hidden_size}},
            {head_name(), {config_.vocab_size, config_.hidden_size}}};
  }

  [[nodiscard]] at::Tensor embed(const NamedTensors& tensors,
                                 const at::Tensor& ids) const override {
    // Rows first, then their dtype: the table is large, a sample's rows are not.
    return at::embedding(tensor_of(tensors, kEmbedding), ids).to(at::kFloat);
  }
  [[nodiscard]] at::Tensor logits(const NamedTensors& tensors, const at::Tensor& x) const override;
  [[nodiscard]] at::Tensor forward(const EffectiveBlock& block, const at::Tensor& x,
                                   const SiteFunction& at_site) const override;

 private:
  [[nodiscard]] const char* head_name() const {
    return config_.tie_word_embeddings ? kEmbedding : kHead;
  }
  [[nodiscard]] at::Tensor attention(const EffectiveBlock& block, const at::Tensor& x,
                                     const SiteFunction& at_site) const;
  [[nodiscard]] at::Tensor mlp(const EffectiveBlock& block, const at::Tensor& x,
                               const SiteFunction& at_site) const;
  [[nodiscard]] at::Tensor normed(const EffectiveBlock& block, const char* norm,
                                  const at::Tensor& x) const {
    const EffectiveNorm& effective = block.norms.at(norm);
    return rms_norm(x, effective.weight, effective.bias, config_.rms_norm_eps);
  }

  ModelConfig config_;
  BlockSpec block_;
  RopeTable rope_;
};

std::vector<TensorSpec> Llama::block_tensors(BlockIndex k) const {
  const std::string prefix = block_prefix(k);
  std::vector<TensorSpec> specs;
  for (const LinearSpec& linear : block_.linears) {
    specs.push_back({concat(prefix, linear.name, ".weight"), {linear.out, linear.in}});
    if (linear.bias) specs.push_back({concat(prefix, linear.name, ".bias"), {linear.out}});
  }
  for (const std::string& norm : block_.norms) {
    specs.push_back({concat(prefix, norm, ".weight"), {config_.hidden_size}});
  }
  return specs;
}

at::Tensor Llama::logits(const NamedTensors& tensors, const at::Tensor& x) const {
  const at::ScalarType exact = exact_dtype(x);
  const at::Tensor& head = tensor_of(tensors, head_name());
  const at::Tensor h = rms_norm(x.to(exact), tensor_of(tensors, kFinalNorm).to(exact), at::Tensor(),
                                config_.rms_norm_eps);
  return at::linear(h.to(head.scalar_type()), head).to(exact);
}

at::Tensor Llama::attention(const EffectiveBlock& block, const at::Tensor& x,
                            const SiteFunction& at_site) const {
  const at::ScalarType exact = x.scalar_type();
  const at::ScalarType compute = block.linears.at(kQuery).weight.scalar_type();
  const at::Tensor h = at_site(Site::kQkvIn, normed(block, kNorm1, x)).to(compute);
  const RopeAngles angles = rope_.angles(x.size(1), exact, x.device());
  const std::int64_t groups = config_.num_key_value_heads;
  const at::Tensor q =
      at_site(Site::kQuery, rotate_heads(apply_linear(block.linears.at(kQuery), h, exact),
                                         config_.num_attention_heads, angles));
  const at::Tensor k = at_site(
      Site::kKey, rotate_heads(apply_linear(block.linears.at(kKey), h, exact), groups, angles));
  const at::Tensor v = at_site(Site::kValue, apply_linear(block.linears.at(kValue), h, exact)
                                                 .unflatten(-1, {groups, config_.head_dim})
                                                 .transpose(1, 2)
                                                 .contiguous());
  const std::int64_t sharing = config_.query_groups();
  const at::Tensor mixed = attend(q.to(compute), repeat_shared(k.to(compute), sharing),
                                  repeat_shared(v.to(compute), sharing));
  const at::Tensor merged = mixed.transpose(1, 2).reshape({x.size(0), x.size(1), -1}).to(exact);
  return apply_linear(block.linears.at(kOut), at_site(Site::kOutIn, merged).to(compute), exact);
}

at::Tensor Llama::mlp(const EffectiveBlock& block, const at::Tensor& x,
                      const SiteFunction& at_site) const {
  const at::ScalarType exact = x.scalar_type();
  const at::ScalarType compute = block.linears.at(kGate).weight.scalar_type();
  const at::Tensor h = at_site(Site::kMlpIn, normed(block, kNorm2, x)).to(compute);
  const at::Tensor gate = apply_linear(block.linears.at(kGate), h, exact);
  const at::Tensor up = apply_linear(block.linears.at(kUp), h, exact);
  const at::Tensor product = at_site(Site::kDownIn, at::silu(gate) * up).to(compute);
  return apply_linear(block.linears.at(kDown), product, exact);
}

at::Tensor Llama::forward(const EffectiveBlock& block, const at::Tensor& x,
                          const SiteFunction& at_site) const {
  expect(x.dim() == 3 && x.size(2) == config_.hidden_size,
         concat("block input has shape ", format_list(x.sizes()), ", not [1, T, ",
                config_.hidden_size, "]"));
  const at::Tensor residual = x.to(exact_dtype(x));
  const at::Tensor middle = residual + attention(block, residual, at_site);
  return middle + mlp(block, middle, at_site);
}

}  // namespace

std::unique_ptr<Family> make_llama(const ModelConfig& config) {
  return std::make_unique<Llama>(config);
}

}  // namespace lrq::models

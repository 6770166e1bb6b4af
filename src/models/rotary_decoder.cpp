#include "src/models/rotary_decoder.h"

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/models/layers.h"

namespace lrq::models {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kFinalNorm = "model.norm.weight";
constexpr const char* kHead = "lm_head.weight";

constexpr const char* kNorm1 = "input_layernorm";
constexpr const char* kNorm2 = "post_attention_layernorm";
constexpr const char* kQueryNorm = "self_attn.q_norm";
constexpr const char* kKeyNorm = "self_attn.k_norm";
constexpr const char* kQuery = "self_attn.q_proj";
constexpr const char* kKey = "self_attn.k_proj";
constexpr const char* kValue = "self_attn.v_proj";
constexpr const char* kOut = "self_attn.o_proj";
constexpr const char* kGate = "mlp.gate_proj";
constexpr const char* kUp = "mlp.up_proj";
constexpr const char* kDown = "mlp.down_proj";

BlockSpec make_block_spec(const ModelConfig& c, const RotaryTraits& traits) {
  const std::int64_t query_rows = c.num_attention_heads * c.head_dim;
  const std::int64_t value_rows = c.num_key_value_heads * c.head_dim;
  BlockSpec spec;
  spec.linears = {
      {kQuery, query_rows, c.hidden_size, traits.qkv_bias, Site::kQkvIn},
      {kKey, value_rows, c.hidden_size, traits.qkv_bias, Site::kQkvIn},
      {kValue, value_rows, c.hidden_size, traits.qkv_bias, Site::kQkvIn},
      {kOut, c.hidden_size, query_rows, traits.out_bias, Site::kOutIn},
      {kGate, c.intermediate_size, c.hidden_size, traits.mlp_bias, Site::kMlpIn},
      {kUp, c.intermediate_size, c.hidden_size, traits.mlp_bias, Site::kMlpIn},
      {kDown, c.hidden_size, c.intermediate_size, traits.mlp_bias, Site::kDownIn},
  };
  spec.norms = {kNorm1, kNorm2};
  spec.norm_pairs = {
      {"qkv", kNorm1, {kQuery, kKey, kValue}, kQuery, Site::kQkvIn},
      {"fc1", kNorm2, {kGate, kUp}, kUp, Site::kMlpIn},
  };
  spec.value_pairs = {{"out", kValue, kOut, Site::kOutIn},
                      {"down", kUp, kDown, Site::kDownIn, /*heads=*/false}};
  spec.query = kQuery;
  spec.key = kKey;
  if (traits.head_norms) {
    spec.query_norm = kQueryNorm;
    spec.key_norm = kKeyNorm;
    spec.norms.insert(spec.norms.end(), {kQueryNorm, kKeyNorm});
  }
  return spec;
}

}  // namespace

RotaryDecoder::RotaryDecoder(const ModelConfig& config, const RotaryTraits& traits)
    : config_(config), block_(make_block_spec(config, traits)), rope_(config) {}

std::string RotaryDecoder::block_prefix(BlockIndex k) const {
  return concat("model.layers.", k.value, ".");
}

std::vector<TensorSpec> RotaryDecoder::block_tensors(BlockIndex k) const {
  const std::string prefix = block_prefix(k);
  std::vector<TensorSpec> specs = linear_tensors(prefix, block_.linears);
  for (const std::string& norm : block_.norms) {
    const bool over_a_head = norm == block_.query_norm || norm == block_.key_norm;
    specs.push_back(
        {concat(prefix, norm, ".weight"), {over_a_head ? config_.head_dim : config_.hidden_size}});
  }
  return specs;
}

std::vector<TensorSpec> RotaryDecoder::embedding_tensors() const {
  return {{kEmbedding, {config_.vocab_size, config_.hidden_size}}};
}

std::vector<TensorSpec> RotaryDecoder::head_tensors() const {
  return {{kFinalNorm, {config_.hidden_size}},
          {head_name(), {config_.vocab_size, config_.hidden_size}}};
}

const char* RotaryDecoder::head_name() const {
  return config_.tie_word_embeddings ? kEmbedding : kHead;
}

at::Tensor RotaryDecoder::embed(const NamedTensors& tensors, const at::Tensor& ids) const {
  // Rows first, then their dtype: the table is large, a sample's rows are not.
  return at::embedding(tensor_of(tensors, kEmbedding), ids).to(at::kFloat);
}

at::Tensor RotaryDecoder::logits(const NamedTensors& tensors, const at::Tensor& x) const {
  const at::ScalarType exact = exact_dtype(x);
  const at::Tensor& head = tensor_of(tensors, head_name());
  const at::Tensor h = rms_norm(x.to(exact), tensor_of(tensors, kFinalNorm).to(exact), at::Tensor(),
                                config_.rms_norm_eps);
  return at::linear(h.to(head.scalar_type()), head).to(exact);
}

at::Tensor RotaryDecoder::normed(const EffectiveBlock& block, const std::string& norm,
                                 const at::Tensor& x) const {
  const EffectiveNorm& effective = block.norms.at(norm);
  return rms_norm(x, effective.weight, effective.bias, config_.rms_norm_eps);
}

at::Tensor RotaryDecoder::turned_heads(const EffectiveBlock& block, const std::string& linear,
                                       const std::string& norm, std::int64_t heads,
                                       const at::Tensor& h, at::ScalarType exact) const {
  at::Tensor x = apply_linear(block.linears.at(linear), h, exact);
  if (!norm.empty()) x = normed(block, norm, x.unflatten(-1, {heads, config_.head_dim})).flatten(2);
  return rotate_heads(x, heads, rope_.angles(x.size(1), exact, x.device()));
}

at::Tensor RotaryDecoder::attention(const EffectiveBlock& block, const at::Tensor& x,
                                    const SiteFunction& at_site) const {
  const at::ScalarType exact = x.scalar_type();
  const at::ScalarType compute = block.linears.at(kQuery).weight.scalar_type();
  const at::Tensor h = at_site(Site::kQkvIn, normed(block, kNorm1, x)).to(compute);
  const std::int64_t groups = config_.num_key_value_heads;
  const at::Tensor q = at_site(Site::kQuery, turned_heads(block, kQuery, block_.query_norm,
                                                          config_.num_attention_heads, h, exact));
  const at::Tensor k =
      at_site(Site::kKey, turned_heads(block, kKey, block_.key_norm, groups, h, exact));
  const at::Tensor v =
      at_site(Site::kValue, split_heads(apply_linear(block.linears.at(kValue), h, exact), groups));
  const std::int64_t sharing = config_.query_groups();
  const at::Tensor mixed = attend(q.to(compute), repeat_shared(k.to(compute), sharing),
                                  repeat_shared(v.to(compute), sharing),
                                  {.scale = std::nullopt,
                                   .window = config_.sliding_window,
                                   .round_probabilities = block.round_probabilities});
  const at::Tensor merged = merge_heads(mixed).to(exact);
  return apply_linear(block.linears.at(kOut), at_site(Site::kOutIn, merged).to(compute), exact);
}

at::Tensor RotaryDecoder::mlp(const EffectiveBlock& block, const at::Tensor& x,
                              const SiteFunction& at_site) const {
  const at::ScalarType exact = x.scalar_type();
  const at::ScalarType compute = block.linears.at(kGate).weight.scalar_type();
  const at::Tensor h = at_site(Site::kMlpIn, normed(block, kNorm2, x)).to(compute);
  const at::Tensor gate = apply_linear(block.linears.at(kGate), h, exact);
  const at::Tensor up = apply_linear(block.linears.at(kUp), h, exact);
  const at::Tensor product = at_site(Site::kDownIn, at::silu(gate) * up).to(compute);
  return apply_linear(block.linears.at(kDown), product, exact);
}

at::Tensor RotaryDecoder::forward(const EffectiveBlock& block, const at::Tensor& x,
                                  const SiteFunction& at_site) const {
  expect(x.dim() == 3 && x.size(2) == config_.hidden_size,
         concat("block input has shape ", format_list(x.sizes()), ", not [1, T, ",
                config_.hidden_size, "]"));
  const at::Tensor residual = x.to(exact_dtype(x));
  const at::Tensor middle = residual + attention(block, residual, at_site);
  return middle + mlp(block, middle, at_site);
}

std::unique_ptr<Family> make_rotary_decoder(const ModelConfig& config, const RotaryTraits& traits) {
  return std::make_unique<RotaryDecoder>(config, traits);
}

}  // namespace lrq::models

#include <cmath>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/models/config_fields.h"
#include "src/models/layers.h"
#include "src/models/registry.h"

namespace lrq::models {
namespace {

constexpr const char* kEmbedding = "model.decoder.embed_tokens.weight";
constexpr const char* kPositions = "model.decoder.embed_positions.weight";
constexpr const char* kProjectIn = "model.decoder.project_in.weight";
constexpr const char* kProjectOut = "model.decoder.project_out.weight";
constexpr const char* kFinalNorm = "model.decoder.final_layer_norm";
constexpr const char* kHead = "lm_head.weight";

constexpr const char* kNorm1 = "self_attn_layer_norm";
constexpr const char* kNorm2 = "final_layer_norm";
constexpr const char* kQuery = "self_attn.q_proj";
constexpr const char* kKey = "self_attn.k_proj";
constexpr const char* kValue = "self_attn.v_proj";
constexpr const char* kOut = "self_attn.out_proj";
constexpr const char* kUp = "fc1";
constexpr const char* kDown = "fc2";

constexpr double kNormEps = 1e-5;
constexpr std::int64_t kPositionOffset = 2;  // the first two rows of the table are never used

BlockSpec make_block_spec(const ModelConfig& c) {
  const std::int64_t hidden = c.hidden_size;
  BlockSpec spec;
  spec.linears = {
      {kQuery, hidden, hidden, c.attention_bias, Site::kQkvIn},
      {kKey, hidden, hidden, c.attention_bias, Site::kQkvIn},
      {kValue, hidden, hidden, c.attention_bias, Site::kQkvIn},
      {kOut, hidden, hidden, c.attention_bias, Site::kOutIn},
      {kUp, c.intermediate_size, hidden, c.mlp_bias, Site::kMlpIn},
      {kDown, hidden, c.intermediate_size, c.mlp_bias, Site::kDownIn},
  };
  spec.norms = {kNorm1, kNorm2};
  // A norm behind the residual is read by the next residual too, so nothing can move out of it.
  if (c.do_layer_norm_before) {
    spec.norm_pairs = {
        {"qkv", kNorm1, {kQuery, kKey, kValue}, kQuery, Site::kQkvIn},
        {"fc1", kNorm2, {kUp}, kUp, Site::kMlpIn},
    };
  }
  spec.value_pairs = {{"out", kValue, kOut, Site::kOutIn},
                      {"down", kUp, kDown, Site::kDownIn, /*heads=*/false}};
  spec.query = kQuery;
  spec.key = kKey;
  spec.query_scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  spec.rotary = false;
  spec.shift_starts_at_statistic = true;
  return spec;
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::layer_norm(x, {x.size(-1)}, weight, bias, kNormEps);
}

/// The OPT family: LayerNorm with biases, learned positions, ReLU; norms before or behind.
/// Source: Hugging Face transformers, modeling_opt.
class Opt final : public Family {
 public:
  explicit Opt(const ModelConfig& config) : config_(config), block_(make_block_spec(config)) {}

  [[nodiscard]] const ModelConfig& config() const override { return config_; }
  [[nodiscard]] const BlockSpec& block() const override { return block_; }
  [[nodiscard]] std::string block_prefix(BlockIndex k) const override {
    return concat("model.decoder.layers.", k.value, ".");
  }
  [[nodiscard]] std::vector<TensorSpec> block_tensors(BlockIndex k) const override;
  [[nodiscard]] std::vector<TensorSpec> embedding_tensors() const override;
  [[nodiscard]] std::vector<TensorSpec> head_tensors() const override;
  [[nodiscard]] at::Tensor embed(const NamedTensors& tensors, const at::Tensor& ids) const override;
  [[nodiscard]] at::Tensor logits(const NamedTensors& tensors, const at::Tensor& x) const override;
  [[nodiscard]] at::Tensor forward(const EffectiveBlock& block, const at::Tensor& x,
                                   const SiteFunction& at_site) const override;

 private:
  [[nodiscard]] const char* head_name() const {
    return config_.tie_word_embeddings ? kEmbedding : kHead;
  }
  /// The width of the embedding and of what the head reads; blocks are hidden_size wide.
  [[nodiscard]] std::int64_t embedding_width() const {
    return config_.word_embed_proj_dim > 0 ? config_.word_embed_proj_dim : config_.hidden_size;
  }
  [[nodiscard]] bool projects() const { return embedding_width() != config_.hidden_size; }

  [[nodiscard]] at::Tensor attention(const EffectiveBlock& block, const at::Tensor& x,
                                     const SiteFunction& at_site) const;
  [[nodiscard]] at::Tensor mlp(const EffectiveBlock& block, const at::Tensor& x,
                               const SiteFunction& at_site) const;

  ModelConfig config_;
  BlockSpec block_;
};

std::vector<TensorSpec> Opt::block_tensors(BlockIndex k) const {
  const std::string prefix = block_prefix(k);
  std::vector<TensorSpec> specs = linear_tensors(prefix, block_.linears);
  for (const std::string& norm : block_.norms) {
    specs.push_back({concat(prefix, norm, ".weight"), {config_.hidden_size}});
    specs.push_back({concat(prefix, norm, ".bias"), {config_.hidden_size}});
  }
  return specs;
}

std::vector<TensorSpec> Opt::embedding_tensors() const {
  std::vector<TensorSpec> specs = {
      {kEmbedding, {config_.vocab_size, embedding_width()}},
      {kPositions, {config_.max_position_embeddings + kPositionOffset, config_.hidden_size}}};
  if (projects()) specs.push_back({kProjectIn, {config_.hidden_size, embedding_width()}});
  return specs;
}

std::vector<TensorSpec> Opt::head_tensors() const {
  std::vector<TensorSpec> specs = {{head_name(), {config_.vocab_size, embedding_width()}}};
  if (config_.do_layer_norm_before) {
    specs.push_back({concat(kFinalNorm, ".weight"), {config_.hidden_size}});
    specs.push_back({concat(kFinalNorm, ".bias"), {config_.hidden_size}});
  }
  if (projects()) specs.push_back({kProjectOut, {embedding_width(), config_.hidden_size}});
  return specs;
}

at::Tensor Opt::embed(const NamedTensors& tensors, const at::Tensor& ids) const {
  const std::int64_t tokens = ids.size(1);
  expect(
      tokens <= config_.max_position_embeddings,
      concat(tokens, " tokens, and the table has ", config_.max_position_embeddings, " positions"));
  at::Tensor x = at::embedding(tensor_of(tensors, kEmbedding), ids).to(at::kFloat);
  if (projects()) x = at::linear(x, tensor_of(tensors, kProjectIn).to(at::kFloat));
  return x + tensor_of(tensors, kPositions).narrow(0, kPositionOffset, tokens).to(at::kFloat);
}

at::Tensor Opt::logits(const NamedTensors& tensors, const at::Tensor& x) const {
  const at::ScalarType exact = exact_dtype(x);
  const at::Tensor& head = tensor_of(tensors, head_name());
  at::Tensor h = x.to(exact);
  if (config_.do_layer_norm_before) {
    h = layer_norm(h, tensor_of(tensors, concat(kFinalNorm, ".weight")).to(exact),
                   tensor_of(tensors, concat(kFinalNorm, ".bias")).to(exact));
  }
  if (projects()) h = at::linear(h, tensor_of(tensors, kProjectOut).to(exact));
  return at::linear(h.to(head.scalar_type()), head).to(exact);
}

at::Tensor Opt::attention(const EffectiveBlock& block, const at::Tensor& x,
                          const SiteFunction& at_site) const {
  const at::ScalarType exact = x.scalar_type();
  const at::ScalarType compute = block.linears.at(kQuery).weight.scalar_type();
  const at::Tensor h = at_site(Site::kQkvIn, x).to(compute);
  const std::int64_t heads = config_.num_attention_heads;
  // Queries are scaled before anything is quantized, so the product that follows is not.
  const at::Tensor q =
      at_site(Site::kQuery, apply_linear(block.linears.at(kQuery), h, exact) * block_.query_scale);
  const at::Tensor k = at_site(Site::kKey, apply_linear(block.linears.at(kKey), h, exact));
  const at::Tensor v = at_site(Site::kValue, apply_linear(block.linears.at(kValue), h, exact));
  const at::Tensor mixed = attend(
      split_heads(q.to(compute), heads), split_heads(k.to(compute), heads),
      split_heads(v.to(compute), heads),
      {.scale = 1.0, .window = std::nullopt, .round_probabilities = block.round_probabilities});
  const at::Tensor merged = merge_heads(mixed).to(exact);
  return apply_linear(block.linears.at(kOut), at_site(Site::kOutIn, merged).to(compute), exact);
}

at::Tensor Opt::mlp(const EffectiveBlock& block, const at::Tensor& x,
                    const SiteFunction& at_site) const {
  const at::ScalarType exact = x.scalar_type();
  const at::ScalarType compute = block.linears.at(kUp).weight.scalar_type();
  const at::Tensor h = at_site(Site::kMlpIn, x).to(compute);
  const at::Tensor active = apply_linear(block.linears.at(kUp), h, exact).relu();
  return apply_linear(block.linears.at(kDown), at_site(Site::kDownIn, active).to(compute), exact);
}

at::Tensor Opt::forward(const EffectiveBlock& block, const at::Tensor& x,
                        const SiteFunction& at_site) const {
  expect(x.dim() == 3 && x.size(2) == config_.hidden_size,
         concat("block input has shape ", format_list(x.sizes()), ", not [1, T, ",
                config_.hidden_size, "]"));
  const auto normed = [&block](const char* norm, const at::Tensor& value) {
    const EffectiveNorm& effective = block.norms.at(norm);
    return layer_norm(value, effective.weight, effective.bias);
  };
  const at::Tensor residual = x.to(exact_dtype(x));
  if (config_.do_layer_norm_before) {
    const at::Tensor middle = residual + attention(block, normed(kNorm1, residual), at_site);
    return middle + mlp(block, normed(kNorm2, middle), at_site);
  }
  const at::Tensor middle = normed(kNorm1, residual + attention(block, residual, at_site));
  return normed(kNorm2, middle + mlp(block, middle, at_site));
}

void read(const ConfigFields& fields, ModelConfig& config) {
  config.intermediate_size = fields.count("ffn_dim");
  config.num_key_value_heads = config.num_attention_heads;
  if (config.hidden_size % config.num_attention_heads != 0) {
    fields.fail(concat("hidden_size is ", config.hidden_size,
                       ", expected a multiple of num_attention_heads ",
                       config.num_attention_heads));
  }
  config.head_dim = config.hidden_size / config.num_attention_heads;
  config.word_embed_proj_dim = fields.count_or("word_embed_proj_dim", config.hidden_size);
  config.do_layer_norm_before = fields.flag_or("do_layer_norm_before", true);
  config.tie_word_embeddings = fields.flag_or("tie_word_embeddings", true);
  config.attention_bias = fields.flag_or("enable_bias", true);
  config.mlp_bias = config.attention_bias;
  fields.only_text("activation_function", "relu");
  fields.only_flag("layer_norm_elementwise_affine", true);
  fields.only_flag("_remove_final_layer_norm", false);
}

std::unique_ptr<Family> make(const ModelConfig& config) { return std::make_unique<Opt>(config); }

}  // namespace

FamilyEntry opt_family() { return {"opt", "OPTForCausalLM", read, make}; }

}  // namespace lrq::models

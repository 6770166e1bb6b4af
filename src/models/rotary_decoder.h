#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/models/family.h"
#include "src/models/rope.h"

namespace lrq::models {

/// What sets one family of rotary decoders apart from another, beside its config.
struct RotaryTraits {
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  bool head_norms = false;  ///< RMSNorm over each query and key head, before they are turned
};

/// A decoder of RMSNorm, rotary embeddings, grouped queries and a gated SiLU MLP, with the tensor
/// names of LLaMA: h = x + attention(norm(x)), y = h + mlp(norm(h)).
/// Source: Hugging Face transformers, modeling_llama and its kin.
class RotaryDecoder final : public Family {
 public:
  RotaryDecoder(const ModelConfig& config, const RotaryTraits& traits);

  [[nodiscard]] const ModelConfig& config() const override { return config_; }
  [[nodiscard]] const BlockSpec& block() const override { return block_; }
  [[nodiscard]] std::vector<TensorSpec> block_tensors(BlockIndex k) const override;
  [[nodiscard]] std::string block_prefix(BlockIndex k) const override;
  [[nodiscard]] std::vector<TensorSpec> embedding_tensors() const override;
  [[nodiscard]] std::vector<TensorSpec> head_tensors() const override;
  [[nodiscard]] at::Tensor embed(const NamedTensors& tensors, const at::Tensor& ids) const override;
  [[nodiscard]] at::Tensor logits(const NamedTensors& tensors, const at::Tensor& x) const override;
  [[nodiscard]] at::Tensor forward(const EffectiveBlock& block, const at::Tensor& x,
                                   const SiteFunction& at_site) const override;

 private:
  [[nodiscard]] const char* head_name() const;
  [[nodiscard]] at::Tensor normed(const EffectiveBlock& block, const std::string& norm,
                                  const at::Tensor& x) const;
  /// Project, norm where the family does, and turn: [1, T, C] -> [1, heads, T, D].
  [[nodiscard]] at::Tensor turned_heads(const EffectiveBlock& block, const std::string& linear,
                                        const std::string& norm, std::int64_t heads,
                                        const at::Tensor& h, at::ScalarType exact) const;
  [[nodiscard]] at::Tensor attention(const EffectiveBlock& block, const at::Tensor& x,
                                     const SiteFunction& at_site) const;
  [[nodiscard]] at::Tensor mlp(const EffectiveBlock& block, const at::Tensor& x,
                               const SiteFunction& at_site) const;

  ModelConfig config_;
  BlockSpec block_;
  RopeTable rope_;
};

[[nodiscard]] std::unique_ptr<Family> make_rotary_decoder(const ModelConfig& config,
                                                          const RotaryTraits& traits);

}  // namespace lrq::models

#pragma once

#include <memory>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "src/models/learnables.h"
#include "src/models/quant_block.h"

namespace lrq::models {

/// float64, from numbers that a reader checks by eye.
inline at::Tensor doubles(const std::vector<double>& values, at::IntArrayRef shape) {
  return at::tensor(values, at::dtype(at::kDouble)).reshape(shape);
}

/// One block of 4 heads of 4 channels, of any family.
inline ModelConfig small_config(const std::string& family, std::int64_t kv_heads, bool biases) {
  ModelConfig config;
  config.model_type = family;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 4;
  config.num_key_value_heads = kv_heads;
  config.head_dim = 4;
  config.vocab_size = 8;
  config.attention_bias = biases;
  config.mlp_bias = biases;
  return config;
}

/// Random blocks that are small enough for finite differences.
struct SmallBlock {
  std::unique_ptr<Family> family;
  NamedTensors weights;
  at::Tensor input;
  at::Generator draws = at::make_generator<at::CPUGeneratorImpl>(7);

  explicit SmallBlock(std::int64_t kv_heads, at::ScalarType dtype = at::kFloat, bool biases = false)
      : SmallBlock(small_config("llama", kv_heads, biases), dtype) {}

  SmallBlock(const ModelConfig& config, at::ScalarType dtype) : family(make_family(config)) {
    const std::string prefix = family->block_prefix(BlockIndex{0});
    for (const TensorSpec& spec : family->block_tensors(BlockIndex{0})) {
      const std::string name = spec.name.substr(prefix.size());
      at::Tensor value = normal(spec.shape) * 0.3;
      if (name.ends_with("norm.weight")) value = value.abs() + 0.5;
      weights[name] = value.to(dtype);
    }
    input = normal({1, 6, 16}).to(dtype);
  }

  [[nodiscard]] at::Tensor normal(at::IntArrayRef shape) {
    return at::randn(shape, draws, at::device(at::kCPU).dtype(at::kDouble));
  }
  /// Uniform in [low, high], with random sign.
  [[nodiscard]] at::Tensor signed_uniform(std::int64_t size, double low, double high) {
    const auto options = at::device(at::kCPU).dtype(at::kDouble);
    return (at::rand({size}, draws, options) * (high - low) + low) *
           (at::rand({size}, draws, options) - 0.5).sign();
  }

  [[nodiscard]] at::Tensor plain() const {
    return family->forward(plain_block(*family, weights, input.scalar_type()), input,
                           plain_sites());
  }
  [[nodiscard]] at::Tensor run(const NamedTensors& learnables, const BlockMethod& method) const {
    const EffectiveBlock folded = fold(*family, weights, learnables, method, input.scalar_type());
    return family->forward(folded, input, quantizing_sites(*family, method, folded));
  }
};

inline double relative_rms(const at::Tensor& found, const at::Tensor& reference) {
  return ((found - reference).square().mean().sqrt() / reference.square().mean().sqrt())
      .to(at::kDouble)
      .item<double>();
}

inline BlockMethod method_with_bits(int weight_bits, int activation_bits) {
  BlockMethod method;
  method.weight.bits = weight_bits;
  method.activation.bits = activation_bits;
  method.query.bits = activation_bits;
  method.key_value.bits = activation_bits;
  return method;
}

}  // namespace lrq::models

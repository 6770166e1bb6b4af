#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/quant/fake_quant.h"
#include "tests/models/small_block.h"

namespace lrq::models {
namespace {

/// Every scale and shift at random: scales in +-[0.05, 20], shifts normal.
NamedTensors random_transforms(SmallBlock& block) {
  const auto& config = block.family->config();
  const std::int64_t values = config.num_key_value_heads * config.head_dim;
  const at::ScalarType dtype = block.input.scalar_type();
  NamedTensors drawn;
  for (const auto& [pair, size] :
       {std::pair{"qkv", config.hidden_size}, std::pair{"fc1", config.hidden_size},
        std::pair{"out", values}}) {
    drawn[scale_name(pair, Parametrization::kAbsolute)] =
        block.signed_uniform(size, 0.05, 20.0).to(dtype);
    drawn[shift_name(pair)] = block.normal({size}).to(dtype);
  }
  drawn[scale_name("qkt", Parametrization::kAbsolute)] =
      block.signed_uniform(values / 2, 0.05, 20.0).to(dtype);
  return drawn;
}

TEST(FoldTest, ChangesNothingBitForBitWithoutLearnablesAndQuantizers) {
  const at::NoGradGuard no_grad;
  for (const bool biases : {false, true}) {
    const SmallBlock block(2, at::kFloat, biases);
    EXPECT_TRUE(at::equal(block.run({}, method_with_bits(16, 16)), block.plain()));
  }
}

TEST(FoldTest, KeepsTheOutputUnderAnyTiedTransform) {
  const at::NoGradGuard no_grad;
  for (const std::int64_t kv_heads : {4, 2, 1}) {
    for (const bool biases : {false, true}) {
      SmallBlock exact(kv_heads, at::kDouble, biases);
      EXPECT_LT(relative_rms(exact.run(random_transforms(exact), method_with_bits(16, 16)),
                             exact.plain()),
                1e-10);
      SmallBlock single(kv_heads, at::kFloat, biases);
      EXPECT_LT(relative_rms(single.run(random_transforms(single), method_with_bits(16, 16)),
                             single.plain()),
                1e-4);
    }
  }
}

TEST(FoldTest, MovesAFreeQueryKeyScaleAwayFromTheOriginal) {
  const at::NoGradGuard no_grad;
  SmallBlock block(4, at::kDouble);
  BlockMethod method = method_with_bits(16, 16);
  method.qk = QkMode::kFree;
  const NamedTensors free = {{"qkt_smooth_scale", block.signed_uniform(16, 0.5, 2.0)}};
  EXPECT_GT(relative_rms(block.run(free, method), block.plain()), 1e-4);
}

TEST(FoldTest, FoldsALogScaleAsItsExponential) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2, at::kDouble);
  const at::Tensor scale = block.signed_uniform(16, 0.5, 2.0).abs();
  const BlockMethod method = method_with_bits(4, 16);
  BlockMethod unclipped = method;
  unclipped.clip = Clip::kNone;
  EXPECT_TRUE(at::allclose(block.run({{"qkv_smooth_log_scale", scale.log()}}, unclipped),
                           block.run({{"qkv_smooth_scale", scale}}, unclipped), 1e-9, 1e-9));
}

// Vector F1: RMSNorm -> linear, on the norm and its first reader.
TEST(FoldTest, GivesVectorF1) {
  const at::NoGradGuard no_grad;
  ModelConfig config;
  config.model_type = "llama";
  config.hidden_size = 4;
  config.intermediate_size = 3;
  config.num_attention_heads = 1;
  config.num_key_value_heads = 1;
  config.head_dim = 4;
  config.vocab_size = 1;
  config.rms_norm_eps = 1e-6;
  const auto family = make_family(config);
  NamedTensors weights;
  for (const TensorSpec& spec : family->block_tensors(BlockIndex{0})) {
    weights[spec.name.substr(15)] = at::zeros(spec.shape, at::dtype(at::kDouble));
  }
  weights["post_attention_layernorm.weight"] = doubles({1, 2, 0.5, 1}, {4});
  weights["mlp.up_proj.weight"] = doubles({1, 0, 2, -1, 0.5, 1, 0, 1, -1, 2, 1, 0}, {3, 4});
  const NamedTensors learnables = {{"fc1_smooth_scale", doubles({2, 0.5, 1, 4}, {4})},
                                   {"fc1_smooth_shift", doubles({0.1, -0.2, 0, 0.3}, {4})}};
  const auto folded = fold(*family, weights, learnables, method_with_bits(16, 16), at::kDouble);
  const EffectiveNorm& norm = folded.norms.at("post_attention_layernorm");
  const EffectiveLinear& linear = folded.linears.at("mlp.up_proj");
  EXPECT_TRUE(at::allclose(norm.weight, doubles({0.5, 4, 0.5, 0.25}, {4}), 1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(norm.bias, doubles({-0.05, 0.4, 0, -0.075}, {4}), 1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(linear.weight, doubles({2, 0, 2, -4, 1, 0.5, 0, 4, -2, 1, 1, 0}, {3, 4}),
                           1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(linear.bias, doubles({-0.2, 0.15, -0.5}, {3}), 1e-9, 1e-9));
  // The folded norm's output, seen where the block hands it to its readers.
  const at::Tensor x = doubles({1, -2, 3, 4, 0.5, 0, -1, 2}, {1, 2, 4});
  at::Tensor seen;
  (void)family->forward(folded, x, [&](Site site, const at::Tensor& value) {
    if (site == Site::kMlpIn) seen = value;  // attention is all zeros, so norm 2 reads x itself
    return value;
  });
  EXPECT_TRUE(at::allclose(seen,
                           doubles({0.1325741737, -2.5211867786, 0.5477225210, 0.2901483473,
                                    0.1682178071, 0.4, -0.4364356142, 0.3614356142},
                                   {1, 2, 4}),
                           1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(
      at::linear(seen, linear.weight, linear.bias),
      doubles({0, 0.1825741737, -2.7386126050, -2.1821780711, 1.9639602639, -0.8728712284},
              {1, 2, 3}),
      1e-9, 1e-9));
}

/// Fold values into their reader: heads of size 2, one value head, biases.
EffectiveBlock fold_values(std::int64_t heads, const std::vector<double>& value_bias,
                           const std::vector<double>& reader, const std::vector<double>& bias) {
  ModelConfig config;
  config.model_type = "llama";
  config.hidden_size = 2;
  config.intermediate_size = 2;
  config.num_attention_heads = heads;
  config.num_key_value_heads = 1;
  config.head_dim = 2;
  config.vocab_size = 1;
  config.attention_bias = true;
  const auto family = make_family(config);
  NamedTensors weights;
  for (const TensorSpec& spec : family->block_tensors(BlockIndex{0})) {
    weights[spec.name.substr(15)] = at::ones(spec.shape, at::dtype(at::kDouble));
  }
  weights["self_attn.v_proj.weight"] = doubles({1, 2, 0, -1}, {2, 2});
  weights["self_attn.v_proj.bias"] = doubles(value_bias, {2});
  weights["self_attn.o_proj.weight"] = doubles(reader, {2, 2 * heads});
  weights["self_attn.o_proj.bias"] = doubles(bias, {2});
  const NamedTensors learnables = {{"out_smooth_scale", doubles({2, 0.5}, {2})},
                                   {"out_smooth_shift", doubles({0.3, -0.4}, {2})}};
  return fold(*family, weights, learnables, method_with_bits(16, 16), at::kDouble);
}

TEST(FoldTest, GivesVectorF2) {
  const at::NoGradGuard no_grad;
  const auto folded = fold_values(1, {0.5, 0}, {1, 1, 2, -1}, {0, 1});
  const EffectiveLinear& values = folded.linears.at("self_attn.v_proj");
  const EffectiveLinear& reader = folded.linears.at("self_attn.o_proj");
  EXPECT_TRUE(at::allclose(values.weight, doubles({0.5, 1, 0, -2}, {2, 2}), 1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(values.bias, doubles({0.1, 0.8}, {2}), 1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(reader.weight, doubles({2, 0.5, 4, -0.5}, {2, 2}), 1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(reader.bias, doubles({-0.1, 2.0}, {2}), 1e-9, 1e-9));
  const at::Tensor v = at::linear(doubles({1, 0, 2, 1}, {2, 2}), values.weight, values.bias);
  const at::Tensor y =
      at::linear(at::matmul(doubles({1, 0, 0.25, 0.75}, {2, 2}), v), reader.weight, reader.bias);
  EXPECT_TRUE(at::allclose(y, doubles({1.5, 4, 3, 9.25}, {2, 2}), 1e-9, 1e-9));
}

TEST(FoldTest, GivesVectorF4) {
  const at::NoGradGuard no_grad;
  const auto folded = fold_values(2, {0, 0}, {1, 1, 0, 2, 2, -1, 1, 0}, {0, 0});
  const EffectiveLinear& values = folded.linears.at("self_attn.v_proj");
  const EffectiveLinear& reader = folded.linears.at("self_attn.o_proj");
  EXPECT_TRUE(
      at::allclose(reader.weight, doubles({2, 0.5, 0, 1, 4, -0.5, 2, 0}, {2, 4}), 1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(reader.bias, doubles({-0.9, 1.3}, {2}), 1e-9, 1e-9));
  const at::Tensor v = at::linear(doubles({1, 0, 2, 1}, {2, 2}), values.weight, values.bias);
  const at::Tensor heads = at::cat({at::matmul(doubles({1, 0, 0.25, 0.75}, {2, 2}), v),
                                    at::matmul(doubles({1, 0, 0.5, 0.5}, {2, 2}), v)},
                                   -1);
  EXPECT_TRUE(at::allclose(at::linear(heads, reader.weight, reader.bias),
                           doubles({1, 3, 1.5, 9.75}, {2, 2}), 1e-9, 1e-9));
}

TEST(FoldTest, GivesVectorF5) {
  const at::NoGradGuard no_grad;
  ModelConfig config;
  config.model_type = "llama";
  config.hidden_size = 4;
  config.intermediate_size = 2;
  config.num_attention_heads = 1;
  config.num_key_value_heads = 1;
  config.head_dim = 4;
  config.vocab_size = 1;
  const auto family = make_family(config);
  NamedTensors weights;
  for (const TensorSpec& spec : family->block_tensors(BlockIndex{0})) {
    weights[spec.name.substr(15)] = at::ones(spec.shape);
  }
  weights["mlp.gate_proj.weight"] =
      doubles({-1.0, -0.25, 0.5, 0.75, 0.1, 0.2, 0.4, 0.8}, {2, 4}).to(at::kFloat);
  BlockMethod method = method_with_bits(3, 16);
  method.clip = Clip::kNone;
  const NamedTensors learnables = {
      {"fc1_smooth_scale", doubles({2, 1, 0.5, 1}, {4}).to(at::kFloat)}};
  const auto folded = fold(*family, weights, learnables, method, at::kFloat);
  EXPECT_TRUE(at::allclose(folded.linears.at("mlp.gate_proj").weight,
                           doubles({-1.9642856, -0.39285713, 0.39285713, 0.7857143, 0.17142858,
                                    0.17142858, 0.17142858, 0.7714286},
                                   {2, 4})
                               .to(at::kFloat),
                           1e-6, 1e-7));
}

TEST(FoldTest, ClipFactorsOfOneArePlainRounding) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  const BlockMethod learned = method_with_bits(4, 4);
  BlockMethod plain = learned;
  plain.clip = Clip::kNone;
  NamedTensors wide;
  for (const LinearSpec& linear : block.family->block().linears) {
    wide[upper_clip_name(linear.name)] = at::full({linear.out, 1}, 40.0);
    wide[lower_clip_name(linear.name)] = at::full({linear.out, 1}, 40.0);
  }
  BlockMethod ratio = learned;
  ratio.clip = Clip::kRatio;
  ratio.clip_ratio = 1.0;
  EXPECT_TRUE(at::equal(block.run(wide, learned), block.run({}, plain)));
  EXPECT_TRUE(at::equal(block.run({}, ratio), block.run({}, plain)));
}

TEST(FoldTest, RotationVectorsMultiplyTheDequantizedWeightAndNoBias) {
  // Vector G: D de-quantized, row [1.1, 0.9], and outer with right [1, 0.5, 2, 1].
  const at::NoGradGuard no_grad;
  const NamedTensors row = {{"l.rotation_row", at::tensor({1.1F, 0.9F}).unsqueeze(1)}};
  NamedTensors outer = {{"l.rotation_left", at::tensor({1.1F, 0.9F}).unsqueeze(1)},
                        {"l.rotation_right", at::tensor({1.0F, 0.5F, 2.0F, 1.0F}).unsqueeze(0)}};
  const at::Tensor d =
      at::tensor({-1.0F, -0.25F, 0.5F, 0.75F, 0.1F, 0.2F, 0.4F, 0.8F}).view({2, 4});
  EXPECT_TRUE(at::allclose(
      d * rotation_of(row, "l"),
      at::tensor({-1.1F, -0.275F, 0.55F, 0.825F, 0.09F, 0.18F, 0.36F, 0.72F}).view({2, 4}), 1e-6,
      1e-7));
  EXPECT_TRUE(at::allclose(
      d * rotation_of(outer, "l"),
      at::tensor({-1.1F, -0.1375F, 1.1F, 0.825F, 0.09F, 0.09F, 0.72F, 0.72F}).view({2, 4}), 1e-6,
      1e-7));

  SmallBlock block(2, at::kFloat, /*biases=*/true);
  BlockMethod method = method_with_bits(3, 16);
  method.clip = Clip::kNone;
  const auto plain = fold(*block.family, block.weights, {}, method, at::kFloat);
  const at::Tensor rho = block.normal({16, 1}).to(at::kFloat);
  const auto rotated = fold(*block.family, block.weights,
                            {{row_rotation_name("mlp.down_proj"), rho}}, method, at::kFloat);
  EXPECT_TRUE(at::equal(rotated.linears.at("mlp.down_proj").weight,
                        plain.linears.at("mlp.down_proj").weight * rho));
  EXPECT_TRUE(
      at::equal(rotated.linears.at("mlp.down_proj").bias, plain.linears.at("mlp.down_proj").bias));
  EXPECT_TRUE(
      at::equal(rotated.linears.at("mlp.up_proj").weight, plain.linears.at("mlp.up_proj").weight));
}

TEST(FoldTest, MissingClipFactorsAreABug) {
  const SmallBlock block(2);
  EXPECT_THROW((void)fold(*block.family, block.weights, {}, method_with_bits(4, 16), at::kFloat),
               BugError);
}

TEST(FoldTest, GradientsAreThoseOfFiniteDifferences) {
  SmallBlock block(2, at::kDouble, /*biases=*/true);
  const BlockMethod method = method_with_bits(16, 16);
  NamedTensors learnables = random_transforms(block);
  learnables["qkv_smooth_log_scale"] = learnables.extract("qkv_smooth_scale").mapped().abs().log();
  BlockMethod free = method;  // the output does depend on a free scale, so its gradient is not zero
  free.qk = QkMode::kFree;
  learnables["qkt_smooth_scale"] = block.signed_uniform(8, 0.5, 2.0);
  const at::Tensor direction = block.normal({1, 6, 16});
  // Curved sites, else exact transforms leave no trace in the output and every gradient is zero.
  const SiteFunction sites = [](Site, const at::Tensor& x) { return x + 0.1 * x * x; };
  const auto value = [&] {
    const auto folded = fold(*block.family, block.weights, learnables, free, at::kDouble);
    return (block.family->forward(folded, block.input, sites) * direction).sum();
  };
  for (auto& item : learnables) item.second.set_requires_grad(true);
  value().backward();
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : learnables) {
    for (const std::int64_t entry : {std::int64_t{0}, tensor.numel() - 1}) {
      at::Tensor place = tensor.detach()[entry];
      const double kept = place.item<double>();
      const double h = 1e-5 * std::max(1.0, std::abs(kept));
      place.fill_(kept + h);
      const double above = value().item<double>();
      place.fill_(kept - h);
      const double below = value().item<double>();
      place.fill_(kept);
      const double expected = (above - below) / (2 * h);
      EXPECT_NEAR(tensor.grad()[entry].item<double>(), expected,
                  1e-6 * std::max(1.0, std::abs(expected)))
          << name << " " << entry;
    }
  }
}

/// A weight whose every range of `group` columns has its largest magnitude far above the others, so
/// that small steps change no range's end, and so no slope.
at::Tensor with_clear_ends(SmallBlock& block, const at::Tensor& weight, std::int64_t group) {
  at::Tensor clear = weight.clamp(-0.7, 0.7);
  for (std::int64_t column = 0; column < weight.size(1); column += group) {
    clear.select(1, column).copy_(block.normal({weight.size(0)}).abs() * 0.1 + 1.5);
  }
  return clear;
}

// With 15 bits the steps of the quantizer are so small that differences of the real, rounded output
// follow the written-out gradient: of clip factors through ranges, of rotation vectors through the
// de-quantized weight.  (Symmetric: the rounded zero point of an asymmetric grid moves
// with the range and carries no gradient, so there the two differ by design.)
TEST(FoldTest, GradientsThroughTheQuantizerAreThoseOfCoarseDifferencesAtFifteenBits) {
  constexpr double kStep = 0.02;
  for (const std::int64_t group : {0, 8}) {
    SmallBlock block(2, at::kDouble);
    BlockMethod method = method_with_bits(15, 16);
    method.weight.group_size = group;
    method.weight.symmetric = true;
    method.weight.zero_point = false;
    NamedTensors learnables;
    for (const LinearSpec& linear : block.family->block().linears) {
      at::Tensor& weight = block.weights.at(linear.name + ".weight");
      weight = with_clear_ends(block, weight, group > 0 ? group : linear.in);
      const std::int64_t ranges = linear.out * method.weight.groups(linear.in);
      learnables[upper_clip_name(linear.name)] = block.normal({ranges, 1}) * 0.1 + 1.0;
      learnables[lower_clip_name(linear.name)] = at::full({ranges, 1}, -1.0, at::kDouble);
      learnables[row_rotation_name(linear.name)] = block.normal({linear.out, 1}) * 0.2 + 1.0;
    }
    const at::Tensor direction = block.normal({1, 6, 16});
    const auto value = [&] { return (block.run(learnables, method) * direction).sum(); };
    for (auto& item : learnables) item.second.set_requires_grad(true);
    value().backward();
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : learnables) {
      const at::Tensor flat = tensor.detach().view({-1});
      at::Tensor expected = at::empty_like(flat);
      for (std::int64_t entry = 0; entry < flat.numel(); ++entry) {
        const double kept = flat[entry].item<double>();
        flat[entry].fill_(kept + kStep);
        const double above = value().item<double>();
        flat[entry].fill_(kept - kStep);
        expected[entry] = (above - value().item<double>()) / (2 * kStep);
        flat[entry].fill_(kept);
      }
      const double largest = expected.abs().max().item<double>();
      const double off = (tensor.grad().view({-1}) - expected).abs().max().item<double>();
      const bool ends_below = name.ends_with("lowbound_factor");  // never the larger magnitude
      EXPECT_EQ(largest > 1e-3, !ends_below) << name << " " << largest;
      EXPECT_LT(off, ends_below ? 1e-3 : 0.03 * largest) << name << " group " << group;
    }
  }
}

}  // namespace
}  // namespace lrq::models

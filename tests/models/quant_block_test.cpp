#include "src/models/quant_block.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/models/rope.h"
#include "src/quant/fake_quant.h"
#include "src/transform/shift.h"
#include "tests/models/small_block.h"

namespace lrq::models {
namespace {

NamedTensors statistics_of(SmallBlock& block) {
  NamedTensors statistics;
  for (const Site site : {Site::kQkvIn, Site::kOutIn, Site::kMlpIn}) {
    statistics[concat(site_name(site), ".absmax")] = block.normal({16}).abs().to(at::kFloat) + 0.1;
    statistics[concat(site_name(site), ".shift")] = block.normal({16}).to(at::kFloat);
  }
  return statistics;
}

NamedTensors start(SmallBlock& block, const BlockMethod& method) {
  return initial_learnables(*block.family, block.weights, statistics_of(block), method);
}

TEST(QuantBlockTest, IsCausalWithAllQuantizers) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  const BlockMethod method = method_with_bits(4, 4);
  const NamedTensors learnables = start(block, method);
  const at::Tensor before = block.run(learnables, method);
  const at::Tensor plain_before = block.plain();
  block.input = block.input.clone();
  block.input[0][4] += 3.0;
  EXPECT_TRUE(at::equal(block.run(learnables, method).narrow(1, 0, 4), before.narrow(1, 0, 4)));
  EXPECT_TRUE(at::equal(block.plain().narrow(1, 0, 4), plain_before.narrow(1, 0, 4)));
  EXPECT_FALSE(at::equal(block.run(learnables, method).narrow(1, 4, 2), before.narrow(1, 4, 2)));
}

TEST(QuantBlockTest, SixteenBitsGiveTheFullPrecisionOutput) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  const BlockMethod method = method_with_bits(16, 16);
  const NamedTensors learnables = start(block, method);
  EXPECT_TRUE(at::allclose(block.run(learnables, method), block.plain(), 1e-4, 1e-5));
  for (const auto& [name, tensor] : learnables) {
    EXPECT_EQ(rate_group(name, method), RateGroup::kFixed) << name;
    EXPECT_FALSE(tensor.requires_grad()) << name;
  }
}

TEST(QuantBlockTest, RunsForwardAndBackwardOnTheMetaDevice) {
  SmallBlock block(2);
  const BlockMethod method = method_with_bits(4, 4);
  NamedTensors learnables = start(block, method);
  NamedTensors weights;
  for (const auto& [name, tensor] : block.weights) weights[name] = tensor.to(at::kMeta);
  for (auto& [name, tensor] : learnables) {
    tensor = tensor.detach().to(at::kMeta).set_requires_grad(true);
  }
  truncate_scales(learnables, method);
  const EffectiveBlock folded = fold(*block.family, weights, learnables, method, at::kFloat);
  const at::Tensor out = block.family->forward(folded, block.input.to(at::kMeta),
                                               quantizing_sites(*block.family, method, folded));
  out.sum().backward();
  EXPECT_TRUE(out.is_meta());
  EXPECT_EQ(out.sizes(), block.input.sizes());
  EXPECT_TRUE(learnables.at("qkv_smooth_log_scale").grad().is_meta());
}

TEST(QuantBlockTest, ReachesEveryLearnableWithAFiniteGradient) {
  SmallBlock block(2);
  BlockMethod method = method_with_bits(4, 4);
  method.weight.group_size = 8;
  NamedTensors learnables = start(block, method);
  truncate_scales(learnables, method);
  (block.run(learnables, method) - block.plain()).square().mean().backward();
  for (const auto& [name, tensor] : learnables) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_TRUE(tensor.grad().isfinite().all().item<bool>()) << name;
    EXPECT_GT(tensor.grad().abs().sum().item<double>(), 0.0) << name;
  }
  EXPECT_EQ(learnables.at("mlp.down_proj.weight_quantizer.upbound_factor").size(0), 16 * 3);
}

TEST(LearnablesTest, ExistAsTheMethodSays) {
  SmallBlock block(2);
  BlockMethod method = method_with_bits(4, 4);
  EXPECT_EQ(start(block, method).size(), 3 + 3 + 1 + 2 * 7);
  EXPECT_EQ(start(block, method).at("qkt_smooth_log_scale").numel(), 4);
  method.qk = QkMode::kFree;
  EXPECT_EQ(start(block, method).at("qkt_smooth_log_scale").numel(), 8);
  method.qk = QkMode::kOff;
  method.shift = ShiftMode::kOff;
  method.clip = Clip::kNone;
  EXPECT_EQ(start(block, method).size(), 3);
  method.scale = ScaleMode::kOff;
  EXPECT_TRUE(start(block, method).empty());
  EXPECT_EQ(start(block, method_with_bits(16, 4)).size(), 3 + 3 + 1);
}

TEST(LearnablesTest, FixedScalesAreFoldedButNeverStepped) {
  SmallBlock block(2);
  BlockMethod method = method_with_bits(4, 4);
  method.scale = ScaleMode::kFixed;
  const NamedTensors learnables = start(block, method);
  EXPECT_FALSE(learnables.contains("qkt_smooth_log_scale"));
  EXPECT_EQ(rate_group("qkv_smooth_log_scale", method), RateGroup::kFixed);
  EXPECT_EQ(rate_group("qkv_smooth_shift", method), RateGroup::kSmoothing);
  EXPECT_EQ(rate_group("mlp.up_proj.weight_quantizer.upbound_factor", method),
            RateGroup::kClipping);
}

TEST(LearnablesTest, WhatIsLearnedFollowsFromWhatIsQuantized) {
  const BlockMethod weight_only = method_with_bits(2, 16);
  EXPECT_EQ(rate_group("fc1_smooth_shift", weight_only), RateGroup::kSmoothing);
  EXPECT_TRUE(learns_anything(weight_only));
  BlockMethod nothing = method_with_bits(16, 16);
  EXPECT_EQ(rate_group("fc1_smooth_shift", nothing), RateGroup::kFixed);
  EXPECT_FALSE(learns_anything(nothing));
  BlockMethod fixed = method_with_bits(4, 4);
  fixed.scale = ScaleMode::kFixed;
  fixed.shift = ShiftMode::kOff;
  EXPECT_TRUE(learns_anything(fixed)) << "the clip factors";
  fixed.clip = Clip::kNone;
  EXPECT_FALSE(learns_anything(fixed));
}

TEST(LearnablesTest, RotationVectorsStartAsOne) {
  SmallBlock block(2);
  BlockMethod method = method_with_bits(4, 4);
  const std::size_t without = start(block, method).size();
  method.rotation = Rotation::kRow;
  EXPECT_EQ(start(block, method).size(), without + 7);
  EXPECT_TRUE(at::equal(start(block, method).at("mlp.down_proj.rotation_row"), at::ones({16, 1})));
  EXPECT_EQ(rate_group("mlp.down_proj.rotation_row", method), RateGroup::kRotation);
  method.rotate_all = false;
  const NamedTensors first = start(block, method);
  EXPECT_EQ(first.size(), without + 3);
  for (const char* linear : {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"}) {
    EXPECT_TRUE(first.contains(row_rotation_name(linear))) << linear;
  }
  method.rotation = Rotation::kOuter;
  method.rotation_rank = 4;
  const NamedTensors outer = start(block, method);
  const at::Tensor product = rotation_of(outer, "mlp.up_proj");
  EXPECT_TRUE(at::equal(product, at::ones({24, 16}))) << "the published code starts at the rank";
  method.weight.bits = 16;
  EXPECT_EQ(start(block, method).size(), 3 + 3 + 1) << "nothing to rotate where nothing is rounded";
}

TEST(LearnablesTest, AShiftCorrectsTheErrorOfQuantizedWeights) {
  // Inputs around 2 and weights off the grid: without a shift the mean of the error stays.
  SmallBlock block(2);
  const BlockMethod method = method_with_bits(2, 16);
  const at::Tensor weight = block.weights.at("mlp.up_proj.weight");
  const at::Tensor rounded = quant::fake_quant_weight(weight, {}, method.weight);
  const at::Tensor x = block.normal({64, 16}).to(at::kFloat) * 0.1 + 2.0;
  const auto error = [&](const at::Tensor& shift) {
    const at::Tensor bias = transform::bias_with_shift({}, weight, shift);
    const at::Tensor y = at::linear(x - shift, rounded, bias);
    return (y - at::linear(x, weight)).pow(2).mean().item<double>();
  };
  EXPECT_LT(error(x.mean(0)), 0.1 * error(at::zeros({16})));
}

TEST(LearnablesTest, StartOverSharedHeadsFromTheLargestAndTheMean) {
  SmallBlock block(2);
  NamedTensors statistics = statistics_of(block);
  // 4 query heads of 4 channels, 2 value heads: heads 0, 1 share the first, 2, 3 the second.
  statistics["out_in.absmax"] =
      at::cat({at::full({4}, 2.0), at::full({4}, 6.0), at::full({4}, 14.0), at::full({4}, 1.0)});
  statistics["out_in.shift"] =
      at::cat({at::full({4}, 1.0), at::full({4}, 2.0), at::full({4}, -1.0), at::full({4}, -3.0)});
  BlockMethod method = method_with_bits(4, 4);
  method.parametrization = Parametrization::kAbsolute;
  method.shift = ShiftMode::kStatistic;
  const auto made = initial_learnables(*block.family, block.weights, statistics, method);
  // LAE: 6 -> 2 and 14 -> 3.5.
  EXPECT_TRUE(
      at::allclose(made.at("out_smooth_scale"), at::cat({at::full({4}, 2.0), at::full({4}, 3.5)})));
  EXPECT_TRUE(at::allclose(made.at("out_smooth_shift"),
                           at::cat({at::full({4}, 1.5), at::full({4}, -2.0)})));
  method.start = ScaleStart::kSmoothQuant;
  block.weights["self_attn.o_proj.weight"] =
      at::cat({at::full({16, 4}, 0.5), at::full({16, 4}, 1.5), at::full({16, 8}, -3.5)}, 1);
  const auto smooth = initial_learnables(*block.family, block.weights, statistics, method);
  // sqrt(6 / 1.5) = 2 and sqrt(14 / 3.5) = 2.
  EXPECT_TRUE(at::allclose(smooth.at("out_smooth_scale"), at::full({8}, 2.0)));
}

TEST(LearnablesTest, AMissingStatisticIsABug) {
  SmallBlock block(2);
  BlockMethod method = method_with_bits(4, 4);
  EXPECT_THROW((void)initial_learnables(*block.family, block.weights, {}, method), BugError);
  method.start = ScaleStart::kOnes;
  EXPECT_NO_THROW((void)initial_learnables(*block.family, block.weights, {}, method));
}

TEST(LearnablesTest, SmallScalesAreLiftedInBothForms) {
  NamedTensors learnables = {
      {"qkv_smooth_scale", at::tensor({0.005F, -0.005F, 0.0F, 0.5F}).set_requires_grad(true)},
      {"fc1_smooth_log_scale", at::tensor({-9.0F, 0.5F}).set_requires_grad(true)},
      {"fc1_smooth_shift", at::tensor({0.001F})}};
  const NamedTensors lifted = truncated_scales(learnables, {});
  EXPECT_FLOAT_EQ(lifted.at("qkv_smooth_scale")[0].item<float>(), 0.01F);
  EXPECT_FALSE(lifted.at("qkv_smooth_scale").requires_grad());
  EXPECT_FLOAT_EQ(learnables.at("qkv_smooth_scale")[0].item<float>(), 0.005F) << "not a copy";
  truncate_scales(learnables, {});
  EXPECT_TRUE(
      at::allclose(learnables.at("qkv_smooth_scale"), at::tensor({0.01F, -0.01F, 0.01F, 0.5F})));
  EXPECT_TRUE(at::allclose(learnables.at("fc1_smooth_log_scale"),
                           at::tensor({static_cast<float>(std::log(0.01)), 0.5F})));
  EXPECT_FLOAT_EQ(learnables.at("fc1_smooth_shift").item<float>(), 0.001F);
  EXPECT_TRUE(learnables.at("qkv_smooth_scale").is_leaf());
}

ModelConfig rope_config(std::int64_t head_dim) {
  ModelConfig config;
  config.head_dim = head_dim;
  return config;
}

/// Heads at one position of an otherwise empty sequence.
at::Tensor turned(const at::Tensor& head, std::int64_t position) {
  at::Tensor x = at::zeros({1, position + 1, head.size(0)}, head.options());
  x[0][position] = head;
  const RopeTable table(rope_config(head.size(0)));
  return rotate_heads(x, 1, table.angles(position + 1, at::kDouble, at::kCPU))[0][0][position];
}

TEST(RopeTest, GivesVectorF3) {
  const at::Tensor q = doubles({1, 2, 3, 4}, {4});
  const at::Tensor k = doubles({-1, 0.5, 2, 1}, {4});
  EXPECT_TRUE(at::allclose(turned(q, 3),
                           doubles({-1.4133525208, 1.8791180667, -2.8288574817, 4.0581911354}, {4}),
                           1e-9, 1e-9));
  EXPECT_TRUE(at::allclose(turned(k, 1),
                           doubles({-2.2232442755, 0.4899751669, 0.2391336269, 1.0049499171}, {4}),
                           1e-9, 1e-9));
  const auto product = [&](const at::Tensor& s) {
    return turned(q / s, 3).dot(turned(k * s, 1)).item<double>();
  };
  EXPECT_NEAR(product(doubles({1, 1, 1, 1}, {4})), 7.4647529847, 1e-8);
  EXPECT_NEAR(product(doubles({2, 0.5, 2, 0.5}, {4})), 7.4647529847, 1e-8);
  EXPECT_NEAR(product(doubles({2, 1, 0.5, 1}, {4})), 14.2844836859, 1e-8);
}

TEST(RopeTest, TurnsTheGradientBack) {
  const at::Tensor x = at::randn({1, 5, 12}, at::dtype(at::kDouble)).set_requires_grad(true);
  const RopeTable table(rope_config(6));
  const at::Tensor y = rotate_heads(x, 2, table.angles(5, at::kDouble, at::kCPU));
  // A rotation is orthogonal: the gradient of |y|^2 / 2 is x.
  (y.square().sum() / 2).backward();
  EXPECT_EQ(y.sizes(), (at::IntArrayRef{1, 2, 5, 6}));
  EXPECT_TRUE(y.is_contiguous());
  EXPECT_TRUE(at::allclose(x.grad(), x.detach(), 1e-12, 1e-12));
}

// theta = 10000, D = 8: frequencies 1, 0.1, 0.01, 0.001, wavelengths 6.28, 62.8, 628, 6283.
// Context 100, low 1, high 4: below 25 kept, above 100 divided by 8; 62.83 lies between:
// smooth = (100 / 62.8319 - 1) / 3 = 0.197183, (1 - smooth) * 0.1 / 8 + smooth * 0.1 = 0.0297535.
TEST(RopeTest, ScalesFrequenciesAsLlama3) {
  ModelConfig config = rope_config(8);
  config.rope_scaling = Llama3RopeScaling{.factor = 8.0,
                                          .low_freq_factor = 1.0,
                                          .high_freq_factor = 4.0,
                                          .original_max_position_embeddings = 100};
  EXPECT_TRUE(at::allclose(inverse_frequencies(config, at::kDouble),
                           doubles({1.0, 0.0297535, 0.00125, 0.000125}, {4}), 1e-5, 0));
}

}  // namespace
}  // namespace lrq::models

// Changes of basis inside a block: they leave its function alone, are built from what passes the
// sites, and are what fold() and the site function use.
#include "src/models/site_maps.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/base/draw_key.h"
#include "src/base/error.h"
#include "src/models/layers.h"
#include "src/models/learnables.h"
#include "src/quant/fake_quant.h"
#include "src/transform/draws.h"
#include "src/transform/greedy_rotation.h"
#include "src/transform/householder_target.h"
#include "src/transform/zigzag.h"
#include "tests/models/small_block.h"

namespace lrq::models {
namespace {

BlockMethod mapped(MapKind kind, int bits = 16) {
  BlockMethod method;
  method.weight.bits = method.activation.bits = method.query.bits = method.key_value.bits = bits;
  method.clip = Clip::kNone;
  method.scale = ScaleMode::kOff;
  method.shift = ShiftMode::kOff;
  method.hadamard_qk = true;
  method.map = {.kind = kind, .block_size = 4, .steps = 8, .householder = true};
  return method;
}

NamedTensors maps_of(const SmallBlock& block, const BlockMethod& method, MapKey key = {.seed = 2}) {
  return build_site_maps(*block.family, block.weights, {}, method, std::span(&block.input, 1),
                         block.input.scalar_type(), key);
}

struct MapCase {
  const char* family;
  std::int64_t kv_heads;
  bool biases;
};
constexpr std::array kMapCases = {MapCase{"llama", 2, false}, MapCase{"llama", 1, true},
                                  MapCase{"qwen2", 2, false}, MapCase{"qwen3", 2, false},
                                  MapCase{"opt", 4, true}};
constexpr std::array kKinds = {MapKind::kGreedy, MapKind::kUniform, MapKind::kHadamard,
                               MapKind::kNone};

TEST(SiteMapsTest, LeaveTheFunctionOfEveryFamilyAloneWhereNothingIsQuantized) {
  const at::NoGradGuard no_grad;
  for (const MapCase& one : kMapCases) {
    for (const MapKind kind : kKinds) {
      SmallBlock block(small_config(one.family, one.kv_heads, one.biases), at::kDouble);
      BlockMethod method = mapped(kind);
      NamedTensors learnables = maps_of(block, method);
      EXPECT_FALSE(learnables.empty());
      // Smoothing in front of the maps, also between the MLP's last two linears.
      for (const auto& [pair, size] : {std::pair{"fc1", 16}, std::pair{"down", 24}}) {
        learnables[scale_name(pair, Parametrization::kAbsolute)] =
            block.signed_uniform(size, 0.05, 20.0).abs();
      }
      // Maps are kept in float32: a rotation is orthogonal to that.
      EXPECT_LT(relative_rms(block.run(learnables, method), block.plain()), 1e-6)
          << one.family << " " << static_cast<int>(kind);
    }
  }
}

TEST(SiteMapsTest, EachSiteHasItsChainByName) {
  SmallBlock block(2);
  const NamedTensors maps = maps_of(block, mapped(MapKind::kUniform));
  ASSERT_EQ(maps.size(), 4 * 4U);
  EXPECT_EQ(maps.at("map.qkv_in.00.rotation").sizes(), (at::IntArrayRef{4, 4}));
  EXPECT_EQ(maps.at("map.mlp_in.01.permutation").scalar_type(), at::kLong);
  EXPECT_EQ(maps.at("map.down_in.03.householder").sizes(), at::IntArrayRef{24});
  const auto chains = site_maps(maps);
  ASSERT_EQ(chains.at(Site::kOutIn).size(), 4U);
  EXPECT_EQ(chains.at(Site::kOutIn)[1].kind->name, "permutation");
  EXPECT_THROW((void)site_maps({{"map.qkv_in.00.twist", at::ones({1})}}), BugError);
  EXPECT_THROW((void)site_maps({{"map.qkv_in.00.shift", at::ones({16})}}), BugError);
}

TEST(SiteMapsTest, AreBuiltFromWhatPassesTheSiteWithTheKeysOfSiteAndStage) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  const NamedTensors maps = maps_of(block, mapped(MapKind::kGreedy), {.seed = 2, .block = 7});
  // The first site's input by hand: the norm of the block's input.
  at::Tensor rows = rms_norm(block.input, block.weights.at("input_layernorm.weight"), {},
                             block.family->config().rms_norm_eps)[0];
  const auto draws = [](std::uint64_t stage) {
    return transform::draws_from(draw_key(2, {7, 0, stage, 0}));
  };
  const at::Tensor first = transform::greedy_rotation(rows, {.block = 4, .steps = 8}, draws(0));
  EXPECT_TRUE(at::allclose(maps.at("map.qkv_in.00.rotation"), first, 1e-5, 1e-6));
  rows = rows.view({-1, 4, 4}).matmul(first).view({-1, 16});
  const at::Tensor order = transform::zigzag_permutation(rows.abs().amax(0), 4);
  EXPECT_TRUE(at::equal(maps.at("map.qkv_in.01.permutation"), order));
  rows = rows.index_select(1, order);
  const at::Tensor second = transform::greedy_rotation(rows, {.block = 4, .steps = 8}, draws(1));
  rows = rows.reshape({-1, 4, 4}).matmul(second).view({-1, 16});
  EXPECT_TRUE(at::allclose(maps.at("map.qkv_in.03.householder"),
                           transform::householder_target(rows, draws(2)), 1e-4, 1e-5));
}

TEST(SiteMapsTest, DifferByBlockAndSeedAndBySiteButNotFromRunToRun) {
  SmallBlock block(2);
  const BlockMethod method = mapped(MapKind::kUniform);
  const auto rotation = [&](const MapKey& key) {
    return maps_of(block, method, key).at("map.qkv_in.00.rotation");
  };
  EXPECT_TRUE(at::equal(rotation({.seed = 2, .block = 1}), rotation({.seed = 2, .block = 1})));
  EXPECT_FALSE(at::equal(rotation({.seed = 2, .block = 1}), rotation({.seed = 2, .block = 2})));
  EXPECT_FALSE(at::equal(rotation({.seed = 2, .block = 1}), rotation({.seed = 3, .block = 1})));
}

TEST(SiteMapsTest, OfSeveralInputsEveryFewTokensAreLookedAt) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  const std::array<at::Tensor, 2> inputs = {block.input.narrow(1, 0, 4).contiguous(),
                                            block.input.narrow(1, 1, 5).contiguous()};
  BlockMethod method = mapped(MapKind::kNone);
  method.map.calib_tokens = 3;  // of 9: every third, so 0, 3 of the first and 2 of the second
  const NamedTensors maps =
      build_site_maps(*block.family, block.weights, {}, method, inputs, at::kFloat, {.seed = 2});
  const auto normed = [&](const at::Tensor& x) {
    return rms_norm(x, block.weights.at("input_layernorm.weight"), {},
                    block.family->config().rms_norm_eps)[0];
  };
  const at::Tensor rows =
      at::stack({normed(inputs[0])[0], normed(inputs[0])[3], normed(inputs[1])[2]});
  const auto draws = transform::draws_from(draw_key(2, {0, 0, 2, 0}));
  EXPECT_TRUE(at::allclose(maps.at("map.qkv_in.00.householder"),
                           transform::householder_target(rows, draws), 1e-4, 1e-5));
}

TEST(SiteMapsTest, OfSeveralDrawsTheOneStaysThatCostsTheLinearsLeast) {
  const at::NoGradGuard no_grad;
  int not_the_first = 0;
  for (const std::uint64_t seed : {2, 3, 4, 5}) {
    SmallBlock block(2);
    BlockMethod method = mapped(MapKind::kNone, 4);  // the reflection alone
    method.map.draws = 4;
    const NamedTensors maps = maps_of(block, method, {.seed = seed});
    // By hand, for the first site.
    const at::Tensor rows = rms_norm(block.input, block.weights.at("input_layernorm.weight"), {},
                                     block.family->config().rms_norm_eps)[0];
    std::vector<at::Tensor> drawn;
    std::vector<double> errors;
    for (std::uint64_t draw = 0; draw < 4; ++draw) {
      const std::uint64_t key = draw_key(seed, {0, 0, 2, 0});
      drawn.push_back(transform::householder_target(
          rows, transform::draws_from(draw == 0 ? key : splitmix64(key ^ draw))));
      const at::Tensor v = drawn.back() / drawn.back().norm();
      const auto reflected = [&](const at::Tensor& x) { return x - 2 * x.matmul(v).outer(v); };
      double& error = errors.emplace_back(0.0);
      for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
        const at::Tensor weight = block.weights.at(std::string("self_attn.") + name + ".weight");
        const at::Tensor y = rows.matmul(weight.t());
        const at::Tensor rounded =
            quant::fake_quant_rows_reference(reflected(rows), method.activation)
                .matmul(
                    quant::fake_quant_weight_reference(reflected(weight), {}, method.weight).t());
        error += ((rounded - y).square().sum(1) / y.square().sum(1)).mean().item<double>();
      }
    }
    const auto best = std::min_element(errors.begin(), errors.end()) - errors.begin();
    not_the_first += best > 0 ? 1 : 0;
    EXPECT_TRUE(at::allclose(maps.at("map.qkv_in.00.householder"),
                             drawn[static_cast<std::size_t>(best)], 1e-4, 1e-5))
        << seed;
  }
  EXPECT_GT(not_the_first, 0);
}

TEST(SiteMapsTest, ABlockSizeThatDoesNotDivideAWidthIsRefusedWithOneThatDoes) {
  SmallBlock block(2);  // widths 16 and 24
  try {
    check_map_sizes(*block.family, {.kind = MapKind::kGreedy, .block_size = 16});
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(error.text().what.find("blocks of 16 channels do not divide the 24 inputs"),
              std::string::npos)
        << error.text().what;
    EXPECT_NE(error.text().fix.find("--block-size 8"), std::string::npos) << error.text().fix;
  }
  EXPECT_NO_THROW(check_map_sizes(*block.family, {.kind = MapKind::kGreedy}));
  EXPECT_NO_THROW(check_map_sizes(*block.family, {.kind = MapKind::kGreedy, .block_size = -1}));
  EXPECT_THROW(check_map_sizes(*block.family, {.kind = MapKind::kHadamard, .block_size = -1}),
               UsageError);  // 24 is no power of two
  EXPECT_NO_THROW(check_map_sizes(*block.family, {.kind = MapKind::kNone, .block_size = 7}));
}

TEST(SiteMapsTest, LearnedReflectionsAndActivationClipsGetAFiniteGradient) {
  SmallBlock block(2);
  BlockMethod method = mapped(MapKind::kUniform, 4);
  method.map.learn_householder = true;
  method.activation_clip = Clip::kLearned;
  method.activation_clip_start = 0.9;
  NamedTensors learnables = initial_learnables(*block.family, block.weights, {}, method);
  EXPECT_NEAR(learnables.at("qkv_in.act_quantizer.upbound_factor").sigmoid().item<double>(), 0.9,
              1e-6);
  for (auto& [name, tensor] : maps_of(block, method)) {
    const bool learns = rate_group(name, method) == RateGroup::kMap;
    EXPECT_EQ(learns, is_reflection(name)) << name;
    learnables.emplace(name, learns ? tensor.set_requires_grad(true) : tensor);
  }
  (block.run(learnables, method) - block.plain()).square().mean().backward();
  int reached = 0;
  for (const auto& [name, tensor] : learnables) {
    if (!tensor.requires_grad()) continue;
    ++reached;
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_TRUE(tensor.grad().isfinite().all().item<bool>()) << name;
    EXPECT_GT(tensor.grad().abs().sum().item<double>(), 0.0) << name;
  }
  EXPECT_EQ(reached, 4 + 2 * 6);
}

TEST(SiteMapsTest, ExactTokensPassEverySiteUnquantized) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  BlockMethod method = mapped(MapKind::kHadamard, 4);
  method.weight.bits = 16;
  method.exact_tokens = 2;
  const NamedTensors maps = maps_of(block, method);
  const at::Tensor out = block.run(maps, method);
  // Attention is causal: the first two positions see each other alone.
  EXPECT_LT(relative_rms(out.narrow(1, 0, 2), block.plain().narrow(1, 0, 2)), 1e-5);
  EXPECT_GT(relative_rms(out.narrow(1, 2, 4), block.plain().narrow(1, 2, 4)), 1e-3);
  method.exact_tokens = 100;
  EXPECT_LT(relative_rms(block.run(maps, method), block.plain()), 1e-5);
}

TEST(SiteMapsTest, FoldTakesCodesInsteadOfRounding) {
  const at::NoGradGuard no_grad;
  SmallBlock block(2);
  const BlockMethod method = mapped(MapKind::kHadamard, 3);
  NamedTensors learnables = maps_of(block, method);
  const auto prepared = prepared_weights(*block.family, block.weights, learnables, method);
  const std::string linear = "mlp.down_proj";
  const auto nearest = quant::quantize_weight(prepared.at(linear).weight,
                                              prepared.at(linear).transform, method.weight);
  const auto folded = [&] {
    return fold(*block.family, block.weights, learnables, method, at::kFloat)
        .linears.at(linear)
        .weight;
  };
  const at::Tensor rounded = folded();
  learnables[codes_name(linear)] = nearest.codes.to(at::kByte);
  EXPECT_TRUE(at::allclose(folded(), rounded, 1e-6, 1e-7));
  // One code up is one step up.
  learnables[codes_name(linear)] = nearest.codes.clamp_max(6).add(1).to(at::kByte);
  const at::Tensor raised = (folded() - rounded) / nearest.step;
  EXPECT_TRUE(at::allclose(raised, nearest.codes.lt(7).to(at::kFloat), 0, 1e-4));
}

}  // namespace
}  // namespace lrq::models

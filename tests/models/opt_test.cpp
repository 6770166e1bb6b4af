#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/quant/fake_quant.h"
#include "tests/models/small_block.h"

namespace lrq::models {
namespace {

SmallBlock opt_block(at::ScalarType dtype = at::kDouble) {
  return {small_config("opt", 4, true), dtype};
}

/// What every site sees in an original block.
std::map<Site, at::Tensor> seen_in(const SmallBlock& block) {
  std::map<Site, at::Tensor> seen;
  (void)block.family->forward(plain_block(*block.family, block.weights, block.input.scalar_type()),
                              block.input, [&](Site site, const at::Tensor& x) {
                                seen[site] = x;
                                return x;
                              });
  return seen;
}

at::Tensor normed(const SmallBlock& block, const char* norm, const at::Tensor& x) {
  const at::Tensor centred = x - x.mean(-1, true);
  const at::Tensor unit = centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
  return unit * block.weights.at(std::string(norm) + ".weight") +
         block.weights.at(std::string(norm) + ".bias");
}

at::Tensor linear(const SmallBlock& block, const std::string& name, const at::Tensor& x) {
  return at::matmul(x, block.weights.at(name + ".weight").t()) + block.weights.at(name + ".bias");
}

TEST(OptTest, SitesSeeScaledQueriesAndAllHeadsOfAToken) {
  const at::NoGradGuard no_grad;
  const SmallBlock block = opt_block();
  const auto seen = seen_in(block);
  const at::Tensor h = normed(block, "self_attn_layer_norm", block.input);
  EXPECT_TRUE(at::allclose(seen.at(Site::kQkvIn), h, 1e-10, 1e-10));
  // Heads of 4 channels: queries are halved behind their bias.
  EXPECT_TRUE(at::allclose(seen.at(Site::kQuery), linear(block, "self_attn.q_proj", h) * 0.5, 1e-10,
                           1e-10));
  EXPECT_TRUE(
      at::allclose(seen.at(Site::kKey), linear(block, "self_attn.k_proj", h), 1e-10, 1e-10));
  EXPECT_TRUE(
      at::allclose(seen.at(Site::kValue), linear(block, "self_attn.v_proj", h), 1e-10, 1e-10));
  for (const Site site : {Site::kQuery, Site::kKey, Site::kValue}) {
    EXPECT_EQ(seen.at(site).sizes(), (at::IntArrayRef{1, 6, 16}));
  }
  EXPECT_GE(seen.at(Site::kDownIn).min().item<double>(), 0.0);
}

TEST(OptTest, NormsBehindTheResidualsSeeTheirSum) {
  const at::NoGradGuard no_grad;
  ModelConfig config = small_config("opt", 4, true);
  config.do_layer_norm_before = false;
  const SmallBlock block(config, at::kDouble);
  const auto seen = seen_in(block);
  EXPECT_TRUE(at::equal(seen.at(Site::kQkvIn), block.input));
  const at::Tensor attended = linear(block, "self_attn.out_proj", seen.at(Site::kOutIn));
  const at::Tensor middle = normed(block, "self_attn_layer_norm", block.input + attended);
  EXPECT_TRUE(at::allclose(seen.at(Site::kMlpIn), middle, 1e-10, 1e-10));
  const at::Tensor out =
      normed(block, "final_layer_norm", middle + linear(block, "fc2", seen.at(Site::kDownIn)));
  EXPECT_TRUE(at::allclose(block.plain(), out, 1e-10, 1e-10));
}

TEST(OptTest, PositionsStartAtTheThirdRowAndTheEmbeddingIsProjected) {
  const at::NoGradGuard no_grad;
  ModelConfig config = small_config("opt", 4, true);
  config.max_position_embeddings = 4;
  config.word_embed_proj_dim = 2;
  const auto family = make_family(config);
  const NamedTensors tensors = {
      {"model.decoder.embed_tokens.weight", at::arange(16, at::kFloat).view({8, 2})},
      {"model.decoder.embed_positions.weight",
       at::arange(6, at::kFloat).view({6, 1}).expand({6, 16})},
      {"model.decoder.project_in.weight", at::tensor({1.0F, -1.0F}).expand({16, 2})}};
  const at::Tensor x = family->embed(tensors, at::tensor({5, 0, 7}, at::kLong).unsqueeze(0));
  // Rows [10, 11], [0, 1], [14, 15] project to -1; positions add 2, 3, 4.
  const at::Tensor expected = at::tensor({1.0F, 2.0F, 3.0F}).view({1, 3, 1}).expand({1, 3, 16});
  EXPECT_TRUE(at::equal(x, expected));
}

TEST(QkvGranularityTest, TheFamilyDecidesUnlessTheRecipeDoes) {
  const at::NoGradGuard no_grad;
  SmallBlock opt = opt_block(at::kFloat);
  SmallBlock llama(2);
  BlockMethod method = method_with_bits(16, 16);
  method.query.bits = 3;
  method.key_value.bits = 4;
  const auto with = [&](QkvGranularity granularity) {
    method.qkv_granularity = granularity;
    return quantizing_sites(*llama.family, method, {});  // heads of 4, as OPT's here
  };
  const at::Tensor joined = opt.normal({1, 6, 8}).to(at::kFloat);
  const at::Tensor split = joined.view({1, 6, 2, 4}).transpose(1, 2).contiguous();
  for (const Site site : {Site::kQuery, Site::kKey, Site::kValue}) {
    const quant::Grid& grid = site == Site::kQuery ? method.query : method.key_value;
    const at::Tensor by_token = quant::fake_quant_rows(joined, grid);
    const at::Tensor by_head = quant::fake_quant_rows(split, grid);
    const at::Tensor by_head_joined = by_head.transpose(1, 2).reshape({1, 6, 8});
    ASSERT_FALSE(at::equal(by_token, by_head_joined));
    EXPECT_TRUE(at::equal(with(QkvGranularity::kFamily)(site, joined), by_token));
    EXPECT_TRUE(at::equal(with(QkvGranularity::kFamily)(site, split), by_head));
    EXPECT_TRUE(at::equal(with(QkvGranularity::kPerToken)(site, joined), by_token));
    EXPECT_TRUE(at::equal(with(QkvGranularity::kPerHead)(site, split), by_head));
    EXPECT_TRUE(at::equal(with(QkvGranularity::kPerHead)(site, joined), by_head_joined));
    EXPECT_TRUE(at::equal(with(QkvGranularity::kPerToken)(site, split),
                          by_token.view({1, 6, 2, 4}).transpose(1, 2)));
  }
}

}  // namespace
}  // namespace lrq::models

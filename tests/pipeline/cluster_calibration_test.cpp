// From a block and its inputs to clusters, orders, ranges and codes.
#include "src/pipeline/cluster_calibration.h"

#include <map>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "src/models/clusters.h"
#include "src/models/layers.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/gptq_rounding.h"
#include "tests/models/small_block.h"

namespace lrq::pipeline {
namespace {

using models::NamedTensors;
using models::Site;
using models::SmallBlock;

recipe::Recipe clusters_at(int weight_bits, int activation_bits) {
  recipe::Recipe recipe;
  recipe.weights.bits = weight_bits;
  recipe.weights.clip = recipe::ClipKind::kNone;
  recipe.activations.bits = activation_bits;
  recipe.smoothing.scale = recipe::Scale::kOff;
  recipe.smoothing.shift = recipe::Shift::kOff;
  recipe.train.epochs = 0;
  recipe.train.wave = 1;
  recipe.clusters = {
      .kind = recipe::ClusterKind::kKmeans, .norms = 4, .heads = 2, .mlp = 5, .min_cluster = 1};
  return recipe;
}

/// A small block with four samples.
struct ClusterScene {
  explicit ClusterScene(const char* family = "llama", std::int64_t kv_heads = 2)
      : block(models::small_config(family, kv_heads, false), at::kFloat) {
    for (int i = 0; i < 4; ++i) samples.push_back(block.normal({1, 6, 16}).to(at::kFloat));
  }

  [[nodiscard]] BlockSamples with(const recipe::Recipe& recipe) const {
    return {.family = *block.family,
            .weights = block.weights,
            .recipe = recipe,
            .samples = static_cast<std::int64_t>(samples.size()),
            .read = [this](std::int64_t i) { return samples[static_cast<std::size_t>(i)]; }};
  }
  [[nodiscard]] NamedTensors state(const recipe::Recipe& recipe) const {
    return calibrated_clusters(with(recipe), {}, {.seed = 2, .block = 1});
  }
  /// What passes a site of the original block, heads merged, in the order of the state.
  [[nodiscard]] std::vector<at::Tensor> ordered(const NamedTensors& state, Site wanted,
                                                const std::string& order) const {
    std::vector<at::Tensor> seen;
    for (const at::Tensor& sample : samples) {
      const auto plain = models::plain_block(*block.family, block.weights, at::kFloat);
      (void)block.family->forward(plain, sample, [&](Site site, const at::Tensor& x) {
        if (site == wanted) {
          const at::Tensor merged = x.dim() == 4 ? models::merge_heads(x) : x;
          seen.push_back(merged[0].index_select(1, state.at(order)));
        }
        return x;
      });
    }
    return seen;
  }
  [[nodiscard]] at::Tensor output(const NamedTensors& state, const recipe::Recipe& recipe) const {
    const auto method = block_method(recipe);
    const auto folded = models::fold(*block.family, block.weights, state, method, at::kFloat);
    return block.family->forward(folded, samples[0],
                                 models::quantizing_sites(*block.family, method, folded));
  }

  SmallBlock block;
  std::vector<at::Tensor> samples;
};

TEST(ClusterCalibrationTest, StaticRangesAreTheExtremaOverAllSamples) {
  const c10::NoGradGuard no_grad;
  const ClusterScene scene;
  // Rounded probabilities would reach the sites behind them in pass C.
  recipe::Recipe recipe = clusters_at(4, 4);
  recipe.clusters.probabilities = false;
  const NamedTensors state = scene.state(recipe);
  for (const auto& [site, order] : {std::pair{Site::kQkvIn, "map.qkv_in.00.permutation"},
                                    std::pair{Site::kQuery, "map.query.00.permutation"},
                                    std::pair{Site::kKey, "map.key.00.permutation"},
                                    std::pair{Site::kValue, "map.value.00.permutation"},
                                    std::pair{Site::kMlpIn, "map.mlp_in.00.permutation"},
                                    std::pair{Site::kDownIn, "map.down_in.00.permutation"}}) {
    const at::Tensor all = at::cat(scene.ordered(state, site, order));
    const auto clusters = models::site_clusters(state).at(site);
    const auto expected = quant::cluster_range(all, clusters.layout);
    EXPECT_TRUE(at::allclose(clusters.range.low, expected.low.amin(0), 1e-4, 1e-5)) << order;
    EXPECT_TRUE(at::allclose(clusters.range.high, expected.high.amax(0), 1e-4, 1e-5)) << order;
  }
}

TEST(ClusterCalibrationTest, EmaRangesStartAtTheFirstSampleAndMoveByOneHundredth) {
  const c10::NoGradGuard no_grad;
  const ClusterScene scene;
  recipe::Recipe recipe = clusters_at(4, 4);
  recipe.clusters.range = recipe::ClusterRangeRule::kEma;
  const NamedTensors state = scene.state(recipe);
  const auto clusters = models::site_clusters(state).at(Site::kQkvIn);
  at::Tensor high;
  for (const at::Tensor& x : scene.ordered(state, Site::kQkvIn, "map.qkv_in.00.permutation")) {
    const at::Tensor now = std::get<0>(quant::cluster_range(x, clusters.layout).high.max(0));
    high = high.defined() ? high * 0.99 + now * 0.01 : now;
  }
  EXPECT_TRUE(at::allclose(clusters.range.high, high, 1e-4, 1e-5));
}

TEST(ClusterCalibrationTest, OnlyWhatIsQuantizedHasStaticRanges) {
  const ClusterScene scene;
  recipe::Recipe recipe = clusters_at(4, 16);
  recipe.activations.kv_bits = 4;
  const NamedTensors state = scene.state(recipe);
  EXPECT_TRUE(state.contains("cluster.key.low"));
  EXPECT_TRUE(state.contains("cluster.value.high"));
  EXPECT_FALSE(state.contains("cluster.query.low"));
  EXPECT_FALSE(state.contains("cluster.qkv_in.low"));
  EXPECT_TRUE(state.contains("cluster.qkv_in.layout"));  // of the weights
  recipe.clusters.dynamic = true;
  EXPECT_FALSE(scene.state(recipe).contains("cluster.key.low"));
  EXPECT_TRUE(scene.output(scene.state(recipe), recipe).isfinite().all().item<bool>());
}

TEST(ClusterCalibrationTest, EqualPartsAndDrawsDependOnSeedAndBlockAlone) {
  const ClusterScene scene;
  recipe::Recipe recipe = clusters_at(4, 4);
  const NamedTensors once = scene.state(recipe);
  const NamedTensors twice = scene.state(recipe);
  ASSERT_EQ(once.size(), twice.size());
  for (const auto& [name, tensor] : once) EXPECT_TRUE(at::equal(tensor, twice.at(name))) << name;
  recipe.clusters.kind = recipe::ClusterKind::kEqual;
  const auto layout = models::restored_layout(scene.state(recipe).at("cluster.qkv_in.layout"));
  ASSERT_EQ(layout.runs.size(), 4U);
  for (const auto& run : layout.runs) EXPECT_EQ(run.channels, 4);
}

TEST(ClusterCalibrationTest, ABlockAtFullPrecisionKeepsItsOutputAndMoreBitsComeNearer) {
  const c10::NoGradGuard no_grad;
  for (const char* family : {"llama", "opt"}) {
    const ClusterScene scene(family, std::string(family) == "opt" ? 4 : 2);
    const at::Tensor plain = scene.block.family->forward(
        models::plain_block(*scene.block.family, scene.block.weights, at::kFloat), scene.samples[0],
        models::plain_sites());
    double before = 1.0;
    for (const int bits : {4, 8, 16}) {
      recipe::Recipe recipe = clusters_at(bits, bits);
      const double error = models::relative_rms(scene.output(scene.state(recipe), recipe), plain);
      EXPECT_LT(error, before) << family << bits;
      before = bits == 8 ? 1e-5 : error;
    }
  }
}

TEST(ClusterCalibrationTest, GptqRoundsOnTheRangesOfRowsAndClusters) {
  const c10::NoGradGuard no_grad;
  const ClusterScene scene;
  recipe::Recipe recipe = clusters_at(3, 16);
  recipe.weights.rounding = recipe::Rounding::kGptq;
  recipe.gptq = {.inputs = recipe::GptqInputs::kPlain, .sequential = false};
  NamedTensors state = scene.state(recipe);
  const at::Tensor nearest = scene.output(state, recipe);
  state.merge(gptq_codes(scene.with(recipe), state));
  const at::Tensor codes = state.at("self_attn.o_proj.codes");
  EXPECT_LE(codes.max().item<int>(), 7);
  // Every weight stays on the steps of its row and cluster.
  const auto method = block_method(recipe);
  const auto prepared =
      models::prepared_weights(*scene.block.family, scene.block.weights, state, method)
          .at("self_attn.o_proj");
  auto quantized = models::quantize_prepared(prepared, method);
  EXPECT_EQ(quantized.step.size(1), prepared.layout.clusters());
  quantized.codes = codes;
  const auto folded =
      models::fold(*scene.block.family, scene.block.weights, state, method, at::kFloat);
  EXPECT_TRUE(at::equal(folded.linears.at("self_attn.o_proj").weight,
                        models::dequantize_prepared(quantized, prepared, method)));
  EXPECT_FALSE(at::equal(nearest, scene.output(state, recipe)));
}

}  // namespace
}  // namespace lrq::pipeline

// Blocks take their device from their weights, and nothing meets a tensor from elsewhere: on the
// meta device, which has shapes and no memory, every phase of a block runs, and a tensor made in
// host memory on the way ends in an error of LibTorch or shows among the results.
#include <map>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "src/models/clusters.h"
#include "src/quant/cluster_observer.h"
#include "src/quant/gptq.h"
#include "src/quant/hessian.h"
#include "tests/fakes/meta_forms.h"
#include "tests/pipeline/device_scene.h"

namespace lrq::pipeline {
namespace {

using models::NamedTensors;
using models::SmallBlock;

struct FamilyCase {
  std::string name;
  std::int64_t kv_heads;
  bool biases;
};
const std::vector<FamilyCase> kFamilies = {
    {"llama", 2, false}, {"qwen3", 2, false}, {"opt", 4, true}};

SmallBlock block_of(const FamilyCase& family) {
  models::ModelConfig config = models::small_config(family.name, family.kv_heads, family.biases);
  config.max_position_embeddings = 32;
  return {config, at::kFloat};
}

std::vector<at::Tensor> samples_of(SmallBlock& block) {
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 4; ++i) samples.push_back(block.normal({1, 6, 16}).to(at::kFloat));
  return samples;
}

/// Maps follow from values, which the meta device has none of: they are built in host memory.
NamedTensors maps_of(const SmallBlock& block, const recipe::Recipe& recipe,
                     const std::vector<at::Tensor>& samples) {
  const models::BlockMethod method = block_method(recipe);
  if (method.map.none()) return {};
  BlockOnDevice host(block, recipe, at::kCPU);
  host.measure(samples);
  return models::build_site_maps(*block.family, block.weights, host.start({}), method,
                                 std::span(samples).first(1), at::kFloat, {.seed = 2});
}

/// On a device that has shapes and no memory.
class DeviceTest : public testing::Test {
 protected:
  DeviceTest() { add_meta_forms(); }
};

void expect_on(at::Device device, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const bool learnable = name.starts_with("learnable.");
    const bool host = models::read_by_host(learnable ? name.substr(10) : name);
    EXPECT_EQ(tensor.device(), host ? at::Device(at::kCPU) : device) << name;
  }
}

TEST_F(DeviceTest, EveryPhaseOfABlockRunsOnTheMetaDevice) {
  for (const FamilyCase& family : kFamilies) {
    SmallBlock block = block_of(family);
    const std::vector<at::Tensor> samples = samples_of(block);
    for (const RecipeCase& which : device_recipes()) {
      for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
        SCOPED_TRACE(family.name + ", " + which.name + ", " + at::toString(compute));
        const recipe::Recipe recipe = shipped_recipe(which.name, which.changes);
        const NamedTensors maps = maps_of(block, recipe, samples);
        BlockOnDevice meta(block, recipe, at::kMeta, compute);
        meta.measure(samples);
        const NamedTensors start = meta.start(maps);
        expect_on(at::kMeta, start);
        const BlockTrainer trainer = meta.learn(start);
        meta.freeze(trainer.learnables());
        expect_on(at::kMeta, meta.made(trainer));
        ASSERT_EQ(meta.outputs.size(), samples.size());
        EXPECT_EQ(meta.outputs[0].sizes(), samples[0].sizes());
      }
    }
  }
}

TEST_F(DeviceTest, EmbeddingAndHeadRunOnTheMetaDevice) {
  for (const FamilyCase& family : kFamilies) {
    const SmallBlock block = block_of(family);
    const at::TensorOptions meta = at::device(at::kMeta).dtype(at::kFloat);
    NamedTensors tensors;
    for (const auto& specs : {block.family->embedding_tensors(), block.family->head_tensors()}) {
      for (const models::TensorSpec& spec : specs) tensors[spec.name] = at::empty(spec.shape, meta);
    }
    const at::Tensor ids = at::empty({1, 6}, meta.dtype(at::kLong));
    const at::Tensor x = block.family->embed(tensors, ids);
    EXPECT_TRUE(x.is_meta());
    const at::Tensor logits = block.family->logits(tensors, x);
    EXPECT_TRUE(logits.is_meta());
    EXPECT_EQ(logits.sizes(), (at::IntArrayRef{1, 6, 8})) << family.name;
  }
}

TEST_F(DeviceTest, SumsOfGptqAndRangesOfClustersRunOnTheMetaDevice) {
  const c10::NoGradGuard no_grad;
  const at::Tensor sample = at::empty({1, 6, 16}, at::device(at::kMeta).dtype(at::kFloat));
  quant::HessianSum hessian(16, 3, at::kMeta);
  for (std::int64_t i = 0; i < 3; ++i) hessian.add(i, sample);
  EXPECT_TRUE(hessian.value().is_meta());
  const auto layout = quant::ClusterLayout::contiguous({5, 11});
  quant::ClusterObserver observer(layout, quant::RangeRule::kEma);
  for (int i = 0; i < 2; ++i) observer.observe(sample);
  const auto [step, zero] = quant::cluster_step_and_zero(observer.range(), {.bits = 4});
  EXPECT_TRUE(
      quant::fake_quant_static(sample, quant::spread(step, layout), quant::spread(zero, layout), 4)
          .is_meta());
  EXPECT_TRUE(quant::fake_quant_clusters(sample, layout, {.bits = 4}).is_meta());
}

TEST_F(DeviceTest, NumbersThatTheHostReadsStayThere) {
  const NamedTensors learnables = {
      {"map.qkv_in.00.hadamard", at::full({1}, 4, at::device(at::kCPU).dtype(at::kLong))},
      {"map.qkv_in.00.permutation", at::arange(4, at::device(at::kCPU).dtype(at::kLong))},
      {"cluster.query.layout", models::stored_layout(quant::ClusterLayout::contiguous({4}))},
      {"cluster.query.low", at::zeros({1}, at::device(at::kCPU).dtype(at::kFloat))}};
  const NamedTensors placed = models::on_device(learnables, at::kMeta);
  EXPECT_TRUE(placed.at("map.qkv_in.00.hadamard").is_cpu());
  EXPECT_TRUE(placed.at("map.qkv_in.00.permutation").is_meta());
  EXPECT_TRUE(placed.at("cluster.query.layout").is_cpu());
  EXPECT_TRUE(placed.at("cluster.query.low").is_meta());
}

}  // namespace
}  // namespace lrq::pipeline

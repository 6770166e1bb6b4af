#include "src/export/bias_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/fakes/memory_file_system.h"
#include "tests/models/small_block.h"

namespace lrq::exporter {
namespace {

using Names = std::set<std::string>;

const Names kAttention = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                          "self_attn.o_proj"};
const Names kMlp = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

/// A LLaMA block that calls itself a model type without switches for biases.
class Biasless final : public models::Family {
 public:
  Biasless() : config_(like_.family->config()) { config_.model_type = "mistral"; }
  [[nodiscard]] const models::ModelConfig& config() const override { return config_; }
  [[nodiscard]] const models::BlockSpec& block() const override { return like_.family->block(); }
  [[nodiscard]] std::vector<models::TensorSpec> block_tensors(BlockIndex k) const override {
    auto tensors = like_.family->block_tensors(k);
    if (norm_bias) tensors.push_back({block_prefix(k) + "input_layernorm.bias", {16}});
    return tensors;
  }
  [[nodiscard]] std::string block_prefix(BlockIndex k) const override {
    return like_.family->block_prefix(k);
  }
  [[nodiscard]] std::vector<models::TensorSpec> embedding_tensors() const override { return {}; }
  [[nodiscard]] std::vector<models::TensorSpec> head_tensors() const override { return {}; }
  [[nodiscard]] at::Tensor embed(const models::NamedTensors&,
                                 const at::Tensor& ids) const override {
    return ids;
  }
  [[nodiscard]] at::Tensor logits(const models::NamedTensors&, const at::Tensor& x) const override {
    return x;
  }
  [[nodiscard]] at::Tensor forward(const models::EffectiveBlock&, const at::Tensor& x,
                                   const models::SiteFunction&) const override {
    return x;
  }
  bool norm_bias = false;

 private:
  models::SmallBlock like_{2, at::kFloat, /*biases=*/false};
  models::ModelConfig config_;
};

TEST(BiasPlanTest, WithoutShiftsThereAreTheCheckpointsOwnBiases) {
  for (const LinearInputs inputs : {LinearInputs::kExact, LinearInputs::kQuantized}) {
    const BiasPlan none = plan_biases(*models::SmallBlock(2).family, {}, inputs);
    EXPECT_TRUE(none.linears.empty() && none.norms.empty() && none.config_keys.empty());
  }
  const models::SmallBlock with_biases(2, at::kFloat, /*biases=*/true);
  const BiasPlan plan = plan_biases(*with_biases.family, {}, LinearInputs::kQuantized);
  EXPECT_EQ(plan.linears.size(), 7U);
  EXPECT_TRUE(plan.config_keys.empty());
}

TEST(BiasPlanTest, LlamaSwitchesOnWhatTheShiftsNeed) {
  const models::SmallBlock small(2);
  const BiasPlan attention = plan_biases(*small.family, {"qkv", "out"}, LinearInputs::kExact);
  EXPECT_EQ(attention.linears, kAttention);
  EXPECT_EQ(attention.config_keys, Names{"attention_bias"});
  const BiasPlan mlp = plan_biases(*small.family, {"fc1"}, LinearInputs::kExact);
  EXPECT_EQ(mlp.linears, kMlp);
  EXPECT_EQ(mlp.config_keys, Names{"mlp_bias"});
}

TEST(BiasPlanTest, ANormsShiftIsRefusedBeforeQuantizedActivations) {
  const models::SmallBlock small(2);
  EXPECT_THROW((void)plan_biases(*small.family, {"qkv"}, LinearInputs::kQuantized), UsageError);
  EXPECT_THROW((void)plan_biases(*small.family, {"fc1"}, LinearInputs::kQuantized), UsageError);
  const BiasPlan values = plan_biases(*small.family, {"out"}, LinearInputs::kQuantized);
  EXPECT_EQ(values.linears, kAttention) << "v -> o goes through linears alone";
}

TEST(BiasPlanTest, AShiftWithoutAPlaceIsRefusedByName) {
  const Biasless family;
  EXPECT_NO_THROW((void)plan_biases(family, {}, LinearInputs::kExact));
  for (const char* pair : {"qkv", "fc1", "out"}) {
    try {
      (void)plan_biases(family, {pair}, LinearInputs::kExact);
      FAIL() << pair;
    } catch (const UsageError& error) {
      EXPECT_NE(error.text().where.find("smoothing.shift"), std::string::npos);
      EXPECT_NE(error.text().fix.find("lrquant-export"), std::string::npos);
      EXPECT_NE(error.text().what.find("mistral"), std::string::npos);
    }
  }
}

TEST(BiasPlanTest, ANormThatHasABiasKeepsIt) {
  Biasless family;
  family.norm_bias = true;
  EXPECT_EQ(plan_biases(family, {}, LinearInputs::kQuantized).norms, Names{"input_layernorm"});
}

TEST(ShiftedPairsTest, AreThoseWithAShiftThatIsNotZeroInAnyBlock) {
  const models::SmallBlock small(2);
  io::MemoryFileSystem disk;
  io::BlockStateStore states(disk, "run");
  const auto save = [&](int block, at::Tensor fc1) {
    states.save_block(BlockIndex{block}, {.tensors = {{"qkv_smooth_shift", at::zeros({16})},
                                                      {"fc1_smooth_shift", std::move(fc1)}},
                                          .metadata = {}});
  };
  save(0, at::zeros({16}));
  save(1, at::zeros({16}));
  EXPECT_EQ(shifted_pairs(*small.family, states, 2), Names{});
  save(1, at::eye(16)[3]);
  EXPECT_EQ(shifted_pairs(*small.family, states, 1), Names{});
  EXPECT_EQ(shifted_pairs(*small.family, states, 2), Names{"fc1"});
}

}  // namespace
}  // namespace lrq::exporter

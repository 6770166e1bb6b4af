#include <set>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/models/family.h"
#include "src/models/quant_block.h"
#include "tests/models/golden_file.h"

namespace lrq::models {
namespace {

/// A small random checkpoint and the logits that Hugging Face gives for it
/// (tests/models/make_family_checkpoints.py).
class FamilyGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string folder = std::string(LRQ_TEST_DATA) + "/families/" + GetParam();
    const std::string path = folder + "/config.json";
    config_ = parse_model_config(read_text(path), path);
    for (const auto& [name, tensor] : read_golden_file(folder + "/model.safetensors").tensors) {
      const bool bare = name.rfind("model.", 0) != 0 && name != "lm_head.weight";
      model_[bare ? "model." + name : name] = tensor;
    }
    const GoldenFile golden = read_golden_file(folder + "/golden.safetensors");
    ids_ = golden.tensor("ids").unsqueeze(0);
    logits_ = golden.tensor("logits");
  }

  [[nodiscard]] at::Tensor logits_of(const ModelConfig& config) const {
    const auto family = make_family(config);
    at::Tensor x = family->embed(model_, ids_);
    for (int k = 0; k < config.num_hidden_layers; ++k) {
      const std::string prefix = family->block_prefix(BlockIndex{k});
      NamedTensors weights;
      for (const TensorSpec& spec : family->block_tensors(BlockIndex{k})) {
        weights[spec.name.substr(prefix.size())] = model_.at(spec.name);
      }
      x = family->forward(plain_block(*family, weights, at::kFloat), x, plain_sites());
    }
    return family->logits(model_, x)[0];
  }

  ModelConfig config_;
  NamedTensors model_;
  at::Tensor ids_;
  at::Tensor logits_;
};

TEST_P(FamilyGoldenTest, NamesEveryTensorOfTheCheckpointWithItsShape) {
  const auto family = make_family(config_);
  std::set<std::string> named;
  const auto check = [&](const std::vector<TensorSpec>& specs) {
    for (const TensorSpec& spec : specs) {
      ASSERT_TRUE(model_.contains(spec.name)) << spec.name;
      EXPECT_EQ(model_.at(spec.name).sizes(), at::IntArrayRef(spec.shape)) << spec.name;
      named.insert(spec.name);
    }
  };
  check(family->embedding_tensors());
  check(family->head_tensors());
  for (int k = 0; k < config_.num_hidden_layers; ++k) check(family->block_tensors(BlockIndex{k}));
  EXPECT_EQ(named.size(), model_.size());
}

TEST_P(FamilyGoldenTest, GivesTheLogitsOfTransformers) {
  const at::NoGradGuard no_grad;
  EXPECT_LT((logits_of(config_) - logits_).abs().max().item<double>(), 1e-4);
}

class RotaryGoldenTest : public FamilyGoldenTest {};

// Otherwise the goldens would say nothing about what sets these families apart.
TEST_P(RotaryGoldenTest, ShowsWhatTheConfigSays) {
  const at::NoGradGuard no_grad;
  const std::string name = GetParam();
  ModelConfig other = config_;
  if (name == "llama3") {
    other.rope_scaling.reset();
  } else if (name == "mistral") {
    ASSERT_LT(config_.sliding_window.value(), ids_.size(1));
    other.sliding_window.reset();
  } else {
    other.rope_theta = 10000.0;
  }
  EXPECT_GT((logits_of(other) - logits_).abs().max().item<double>(), 1e-2);
}

const auto kNameOfCase = [](const auto& chosen) {
  std::string name = chosen.param;
  std::erase(name, '-');
  return name;
};

INSTANTIATE_TEST_SUITE_P(Families, FamilyGoldenTest,
                         testing::Values("llama3", "mistral", "qwen2", "qwen3", "opt",
                                         "opt-post-norm"),
                         kNameOfCase);
INSTANTIATE_TEST_SUITE_P(Families, RotaryGoldenTest,
                         testing::Values("llama3", "mistral", "qwen2", "qwen3"), kNameOfCase);

}  // namespace
}  // namespace lrq::models

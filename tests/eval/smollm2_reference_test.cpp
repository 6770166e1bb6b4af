#include <fstream>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "src/models/quant_block.h"
#include "src/pipeline/model_source.h"
#include "tests/eval/smollm2.h"

namespace lrq::eval {
namespace {

// Expected values: Hugging Face transformers 5.23.0 in float32 on the same float16 file.
TEST(SmolLm2ReferenceTest, LogitsAndHiddenStatesAreThoseOfHuggingFace) {
  ASSERT_TRUE(std::filesystem::exists(smollm2())) << "run launch/setup";
  const c10::NoGradGuard no_grad;
  const pipeline::ModelSource model(smollm2());
  const auto embedding = model.embedding();
  const auto head = model.head();
  std::vector<models::EffectiveBlock> blocks;
  for (int k = 0; k < model.blocks(); ++k) {
    blocks.push_back(models::plain_block(model.family(), model.block(BlockIndex{k}), at::kFloat));
  }
  std::ifstream file(LRQ_TEST_DATA "/reference/logits-smollm2-135m.json");
  const auto golden = nlohmann::json::parse(file);  // a loop keeps no temporary
  for (const auto& reference : golden.at("cases")) {
    const auto ids = reference.at("ids").get<std::vector<std::int64_t>>();
    at::Tensor x = model.family().embed(embedding, at::tensor(ids, at::kLong).unsqueeze(0));
    const auto& rms = reference.at("hidden_state_rms_per_layer");
    for (std::size_t k = 0; k < blocks.size(); ++k) {
      const double before = x.pow(2).mean().sqrt().item<double>();
      EXPECT_NEAR(before / rms.at(k).get<double>(), 1.0, 1e-3) << "before block " << k;
      x = model.family().forward(blocks[k], x, models::plain_sites());
    }
    const at::Tensor logits = model.family().logits(head, x)[0][-1];
    const auto& expected = reference.at("last_logits_first16");
    for (std::int64_t i = 0; i < 16; ++i) {
      EXPECT_NEAR(logits[i].item<double>(), expected.at(static_cast<std::size_t>(i)).get<double>(),
                  1e-3)
          << reference.at("case") << ", logit " << i;
    }
  }
}

}  // namespace
}  // namespace lrq::eval

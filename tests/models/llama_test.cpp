#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "src/models/family.h"
#include "src/models/quant_block.h"
#include "tests/models/golden_file.h"

namespace lrq::models {
namespace {

const std::string kModel = std::string(LRQ_TEST_DATA) + "/stories260k";
const std::string kLogits = std::string(LRQ_TEST_DATA) + "/reference/logits-stories260k.json";

NamedTensors block_weights(const Family& family, const NamedTensors& model, BlockIndex k) {
  NamedTensors weights;
  const std::string prefix = family.block_prefix(k);
  for (const TensorSpec& spec : family.block_tensors(k)) {
    weights[spec.name.substr(prefix.size())] = model.at(spec.name);
  }
  return weights;
}

double rms(const at::Tensor& x) { return x.square().mean().sqrt().item<double>(); }

struct Reference {
  std::unique_ptr<Family> family;
  NamedTensors model;
};

Reference load() {
  const std::string path = kModel + "/config.json";
  return {make_family(parse_model_config(read_text(path), path)),
          read_golden_file(kModel + "/model.safetensors").tensors};
}

TEST(LlamaTest, NamesTheTensorsOfTheCheckpoint) {
  const Reference reference = load();
  std::size_t named = 0;
  const auto check = [&](const std::vector<TensorSpec>& specs) {
    for (const TensorSpec& spec : specs) {
      ASSERT_TRUE(reference.model.contains(spec.name)) << spec.name;
      EXPECT_EQ(reference.model.at(spec.name).sizes(), at::IntArrayRef(spec.shape)) << spec.name;
      ++named;
    }
  };
  for (int k = 0; k < 5; ++k) check(reference.family->block_tensors(BlockIndex{k}));
  check(reference.family->embedding_tensors());
  check(reference.family->head_tensors());
  EXPECT_EQ(named, reference.model.size() + 1);  // the tied embedding serves twice
}

TEST(LlamaTest, GivesTheLogitsOfTransformers) {
  const at::NoGradGuard no_grad;
  const Reference reference = load();
  const Family& family = *reference.family;
  const auto cases = nlohmann::json::parse(read_text(kLogits)).at("cases");
  for (const auto& item : cases) {
    const auto ids = at::tensor(item.at("ids").get<std::vector<std::int64_t>>()).unsqueeze(0);
    const auto hidden_rms = item.at("hidden_state_rms_per_layer").get<std::vector<double>>();
    at::Tensor x = family.embed(reference.model, ids);
    EXPECT_NEAR(rms(x), hidden_rms.at(0), 1e-5);
    for (std::size_t k = 0; k < 5; ++k) {
      const auto weights = block_weights(family, reference.model, BlockIndex{static_cast<int>(k)});
      x = family.forward(plain_block(family, weights, at::kFloat), x, plain_sites());
      // The last entry of the reference is behind the final norm.
      if (k < 4) {
        EXPECT_NEAR(rms(x), hidden_rms.at(k + 1), 1e-4);
      }
    }
    const at::Tensor logits = family.logits(reference.model, x);
    const at::Tensor last = logits[0][-1];
    const auto first16 = item.at("last_logits_first16").get<std::vector<double>>();
    for (std::size_t i = 0; i < first16.size(); ++i) {
      EXPECT_NEAR(last[static_cast<std::int64_t>(i)].item<double>(), first16[i], 1e-3);
    }
    for (const auto& pair : item.at("last_logits_top8")) {
      EXPECT_NEAR(last[pair.at(0).get<std::int64_t>()].item<double>(), pair.at(1).get<double>(),
                  1e-3);
    }
    if (ids.size(1) < 2) continue;
    const auto nll = at::nll_loss(logits[0].narrow(0, 0, ids.size(1) - 1).log_softmax(-1),
                                  ids[0].narrow(0, 1, ids.size(1) - 1));
    EXPECT_NEAR(nll.item<double>(), item.at("nll_mean").get<double>(), 1e-4);
  }
}

TEST(LlamaTest, StaysNearInBfloat16AndReturnsFloat32) {
  const at::NoGradGuard no_grad;
  const Reference reference = load();
  const Family& family = *reference.family;
  const auto ids = at::arange(1, 65, at::kLong).unsqueeze(0);
  const auto weights = block_weights(family, reference.model, BlockIndex{0});
  const at::Tensor x = family.embed(reference.model, ids);
  const at::Tensor exact =
      family.forward(plain_block(family, weights, at::kFloat), x, plain_sites());
  const at::Tensor coarse = family.forward(plain_block(family, weights, at::kBFloat16),
                                           x.to(at::kBFloat16), plain_sites());
  EXPECT_EQ(coarse.scalar_type(), at::kFloat);
  EXPECT_LT(rms(coarse - exact) / rms(exact), 1e-2);
}

}  // namespace
}  // namespace lrq::models

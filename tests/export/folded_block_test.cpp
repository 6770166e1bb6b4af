#include "src/export/folded_block.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/models/small_block.h"

namespace lrq::exporter {
namespace {

using models::SmallBlock;

/// Random scales and shifts for every pair of a SmallBlock, as a block file has them.
models::NamedTensors random_learnables(SmallBlock& small) {
  const std::int64_t values = small.weights.at("self_attn.v_proj.weight").size(0);
  models::NamedTensors learnables;
  const auto add = [&](const std::string& pair, std::int64_t size) {
    learnables[models::scale_name(pair, models::Parametrization::kLog)] =
        (small.normal({size}) * 0.3).to(at::kFloat);
    learnables[models::shift_name(pair)] = (small.normal({size}) * 0.2).to(at::kFloat);
  };
  add("qkv", 16);
  add("fc1", 16);
  add("out", values);
  return learnables;
}

models::BlockMethod weight_only(int bits) {
  models::BlockMethod method = models::method_with_bits(bits, 16);
  method.clip = models::Clip::kNone;
  return method;
}

models::NamedTensors exported(const SmallBlock& small, const models::NamedTensors& learnables,
                              const models::BlockMethod& method) {
  const BiasPlan plan = plan_biases(*small.family, {"qkv", "fc1", "out"}, LinearInputs::kExact);
  return folded_block(*small.family, BlockIndex{0}, small.weights, learnables, method, plan);
}

TEST(FoldedBlockTest, ThePlainBlockOfTheFolderIsTheQuantizedBlockOfTheRun) {
  for (const std::int64_t kv_heads : {4, 2}) {
    SmallBlock small(kv_heads);
    const auto learnables = random_learnables(small);
    const auto method = weight_only(4);
    const at::Tensor expected = small.run(learnables, method);

    SmallBlock folder(kv_heads, at::kFloat, /*biases=*/true);  // attention_bias, mlp_bias
    const std::string prefix = folder.family->block_prefix(BlockIndex{0});
    const auto tensors = exported(small, learnables, method);
    EXPECT_EQ(tensors.size(), folder.family->block_tensors(BlockIndex{0}).size());
    for (auto& [name, tensor] : folder.weights) tensor = tensors.at(prefix + name);
    EXPECT_TRUE(
        at::allclose(folder.family->forward(plain_block(*folder.family, folder.weights, at::kFloat),
                                            small.input, models::plain_sites()),
                     expected, 1e-5, 1e-5));
    EXPECT_GT((expected - small.plain()).abs().max().item<float>(), 1e-3F) << "4 bits show";
  }
}

TEST(FoldedBlockTest, UnquantizedNormShiftsCancelAndValueShiftsStay) {
  SmallBlock small(2);
  const auto learnables = random_learnables(small);
  const auto tensors = exported(small, learnables, weight_only(16));
  const std::string prefix = small.family->block_prefix(BlockIndex{0});
  // b + W d - (W s)(d / s) = b, and there was none.
  for (const char* name :
       {"self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.up_proj"}) {
    EXPECT_LT(tensors.at(prefix + name + ".bias").abs().max().item<float>(), 1e-6F) << name;
  }
  EXPECT_EQ(tensors.at(prefix + "mlp.down_proj.bias").abs().max().item<float>(), 0.0F);
  const at::Tensor shift = learnables.at(models::shift_name("out"));
  const at::Tensor scale = learnables.at(models::scale_name("out", models::Parametrization::kLog));
  EXPECT_TRUE(
      at::allclose(tensors.at(prefix + "self_attn.v_proj.bias"), -shift / scale.exp(), 1e-5, 1e-6));
  const at::Tensor spread = shift.view({2, 1, 4}).expand({2, 2, 4}).reshape({16});
  EXPECT_TRUE(at::allclose(tensors.at(prefix + "self_attn.o_proj.bias"),
                           at::mv(small.weights.at("self_attn.o_proj.weight"), spread), 1e-5,
                           1e-6));
}

TEST(FoldedBlockTest, WithoutShiftsNoBiasIsMade) {
  SmallBlock small(2);
  auto learnables = random_learnables(small);
  for (const char* pair : {"qkv", "fc1", "out"}) learnables.at(models::shift_name(pair)).zero_();
  const auto tensors =
      folded_block(*small.family, BlockIndex{0}, small.weights, learnables, weight_only(4), {});
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(name.find(".bias"), std::string::npos) << name;
  }
  EXPECT_EQ(tensors.size(), small.weights.size());
}

TEST(FoldedBlockTest, ABiasWithoutAPlaceIsNeverDropped) {
  SmallBlock small(2);
  const auto learnables = random_learnables(small);
  EXPECT_THROW((void)folded_block(*small.family, BlockIndex{0}, small.weights, learnables,
                                  weight_only(4), {}),
               BugError);
}

}  // namespace
}  // namespace lrq::exporter

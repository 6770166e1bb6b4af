#include "src/export/shard_plan.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lrq::exporter {
namespace {

// 40, 8, 400 and 20 bytes.
const std::vector<io::PlannedTensor> kTensors = {{"a", at::kFloat, {10}},
                                                 {"b", at::kHalf, {4}},
                                                 {"c", at::kFloat, {10, 10}},
                                                 {"d", at::kBFloat16, {2, 5}}};

std::vector<std::vector<std::string>> names_of(const std::vector<Shard>& shards) {
  std::vector<std::vector<std::string>> names;
  for (const Shard& shard : shards) {
    names.emplace_back();
    for (const io::PlannedTensor& tensor : shard.tensors) names.back().push_back(tensor.name);
  }
  return names;
}

TEST(ShardPlanTest, OneFileHasThePlainName) {
  const auto shards = plan_shards(kTensors, 468);
  ASSERT_EQ(shards.size(), 1U);
  EXPECT_EQ(shards[0].file, "model.safetensors");
}

TEST(ShardPlanTest, AFileIsClosedWhereTheNextTensorDoesNotFit) {
  const auto shards = plan_shards(kTensors, 448);
  EXPECT_EQ(names_of(shards), (std::vector<std::vector<std::string>>{{"a", "b", "c"}, {"d"}}));
  EXPECT_EQ(shards[0].file, "model-00001-of-00002.safetensors");
  EXPECT_EQ(shards[1].file, "model-00002-of-00002.safetensors");
}

TEST(ShardPlanTest, ALargeTensorHasAFileOfItsOwn) {
  EXPECT_EQ(names_of(plan_shards(kTensors, 50)),
            (std::vector<std::vector<std::string>>{{"a", "b"}, {"c"}, {"d"}}));
}

TEST(ShardPlanTest, TheIndexNamesEveryTensorsFile) {
  const auto index = nlohmann::json::parse(shard_index(plan_shards(kTensors, 448)));
  EXPECT_EQ(index["metadata"]["total_size"], 468);
  EXPECT_EQ(index["weight_map"].size(), 4U);
  EXPECT_EQ(index["weight_map"]["c"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["d"], "model-00002-of-00002.safetensors");
}

}  // namespace
}  // namespace lrq::exporter

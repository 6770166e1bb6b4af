#include "src/export/config_json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace lrq::exporter {
namespace {

const std::string kSource = R"({
  "z_first": 1e-05,
  "attention_bias": false,
  "num_hidden_layers": 3,
  "layer_types": ["full", "sliding", "full"],
  "torch_dtype": "float16"
}
)";

TEST(ExportedConfigTest, NothingChangesUnlessAsked) {
  const auto source = nlohmann::ordered_json::parse(kSource);
  const std::string same = exported_config(kSource, {.dtype = {}, .blocks = 3, .keys_on = {}}, "");
  EXPECT_EQ(nlohmann::ordered_json::parse(same).dump(), source.dump()) << "order and values";
}

TEST(ExportedConfigTest, HoldsTheDtypeTheBlocksAndTheBiases) {
  const auto config = nlohmann::json::parse(exported_config(
      kSource, {.dtype = at::kBFloat16, .blocks = 2, .keys_on = {"attention_bias"}}, ""));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_FALSE(config.contains("dtype"));
  EXPECT_EQ(config["num_hidden_layers"], 2);
  EXPECT_EQ(config["layer_types"], (nlohmann::json{"full", "sliding"}));
  EXPECT_EQ(config["attention_bias"], true);
}

TEST(ExportedConfigTest, TheNewerNameOfTheDtypeIsKept) {
  const auto config = nlohmann::json::parse(exported_config(
      R"({"dtype":"float32"})", {.dtype = at::kHalf, .blocks = 1, .keys_on = {}}, ""));
  EXPECT_EQ(config["dtype"], "float16");
  EXPECT_FALSE(config.contains("torch_dtype"));
}

TEST(ExportedConfigTest, WhatIsNoObjectIsRefused) {
  EXPECT_THROW((void)exported_config("[]", {.dtype = {}, .blocks = 1, .keys_on = {}}, "here"),
               DataError);
}

}  // namespace
}  // namespace lrq::exporter

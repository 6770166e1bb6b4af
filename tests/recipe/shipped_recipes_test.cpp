#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::recipe {
namespace {

const std::filesystem::path kRecipes = LRQ_RECIPES;

std::optional<std::string> shipped_text(const std::string& name) {
  std::ifstream file(kRecipes / (name + ".toml"));
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Recipe shipped(const std::string& name) {
  const auto text = shipped_text(name);
  EXPECT_TRUE(text.has_value()) << name;
  return parse_recipe(text.value_or(""), name + ".toml", shipped_text);
}

std::map<std::string, std::string> as_map(const Recipe& recipe) {
  const auto all = fields(recipe);
  return {all.begin(), all.end()};
}

// What every recipe has unless its own test below says otherwise (lrquant's own values).
std::map<std::string, std::string> expected(const std::map<std::string, std::string>& differs) {
  std::map<std::string, std::string> all = {
      {"weights.bits", "0"},
      {"weights.per", "\"channel\""},
      {"weights.group_size", "0"},
      {"weights.symmetric", "false"},
      {"weights.zero_point", "true"},
      {"weights.clip", "\"learned\""},
      {"weights.include_zero", "false"},
      {"weights.rounding", "\"nearest\""},
      {"activations.bits", "16"},
      {"activations.symmetric", "false"},
      {"activations.kv_bits", "0"},
      {"activations.quantize_q", "true"},
      {"activations.quantize_kv", "true"},
      {"activations.qkv_granularity", "\"family\""},
      {"activations.clip", "\"none\""},
      {"activations.clip_start", "0.982"},
      {"activations.exact_tokens", "0"},
      {"smoothing.start", "\"lae\""},
      {"smoothing.alpha", "0.5"},
      {"smoothing.scale", "\"learned\""},
      {"smoothing.shift", "\"learned\""},
      {"smoothing.qk", "\"tied\""},
      {"smoothing.down", "false"},
      {"smoothing.parametrization", "\"log\""},
      {"rotation.kind", "\"off\""},
      {"rotation.block_size", "0"},
      {"rotation.steps", "16"},
      {"rotation.permutations", "1"},
      {"rotation.random_permutations", "3"},
      {"rotation.draws", "1"},
      {"rotation.householder", "\"off\""},
      {"rotation.lr", "0.01"},
      {"rotation.truncate", "false"},
      {"rotation.qk", "\"off\""},
      {"rotation.greedy", "\"column\""},
      {"rotation.givens", "\"target\""},
      {"rotation.blocks", "\"shared\""},
      {"rotation.calib", "\"mean\""},
      {"rotation.calib_tokens", "2048"},
      {"clusters.kind", "\"off\""},
      {"clusters.norms", "32"},
      {"clusters.heads", "4"},
      {"clusters.mlp", "32"},
      {"clusters.sites", "\"12345\""},
      {"clusters.min_cluster", "8"},
      {"clusters.range", "\"minmax\""},
      {"clusters.range_floor", "0.00390625"},
      {"clusters.levels", "\"all\""},
      {"clusters.dynamic", "false"},
      {"clusters.norm_out_bits", "8"},
      {"clusters.probabilities", "true"},
      {"clusters.rope", "\"pairs\""},
      {"clusters.standardise", "false"},
      {"rotation_vectors.form", "\"off\""},
      {"rotation_vectors.layers", "\"all\""},
      {"rotation_vectors.rank", "1"},
      {"rotation_vectors.lr", "0.0"},
      {"loss.mse_p", "1.0"},
      {"loss.nlc_p", "1.0"},
      {"loss.mse_r", "0.0"},
      {"loss.nlc_r", "0.0"},
      {"loss.balance", "\"sum\""},
      {"loss.mse_scale", "\"plain\""},
      {"loss.massive_tokens", "\"keep\""},
      {"loss.massive_above", "10.0"},
      {"loss.nlc_reduction", "\"token_mean_then_log\""},
      {"loss.nlc_abs", "false"},
      {"train.epochs", "20"},
      {"train.let_lr", "0.001"},
      {"train.lwc_lr", "0.01"},
      {"train.wd", "0.0"},
      {"train.batch_size", "1"},
      {"train.schedule", "\"waves\""},
      {"train.wave", "8"},
      {"train.emit", "\"pre\""},
      {"train.lr_schedule", "\"constant\""},
      {"train.nonfinite", "\"restore\""},
      {"train.keep_best", "false"},
      {"train.store", "\"compute\""},
      {"gptq.damping", "0.01"},
      {"gptq.act_order", "false"},
      {"gptq.inputs", "\"quantized\""},
      {"gptq.sequential", "true"},
      {"tta.init", "\"start\""},
      {"tta.scope", "\"set\""},
      {"tta.target", "\"homologous\""},
      {"tta.skip_calib_set", "true"},
      {"tta.input", "\"blocks\""},
      {"tta.act_quant", "true"},
      {"tta.epochs", "5"},
      {"tta.let_lr", "0.0"},
      {"tta.lwc_lr", "0.01"},
  };
  for (const auto& [name, value] : differs) all.at(name) = value;
  return all;
}

TEST(ShippedRecipesTest, RtnLearnsAndSmoothsNothing) {
  EXPECT_EQ(as_map(shipped("rtn")), expected({{"weights.clip", "\"none\""},
                                              {"smoothing.start", "\"ones\""},
                                              {"smoothing.scale", "\"off\""},
                                              {"smoothing.shift", "\"off\""},
                                              {"smoothing.qk", "\"off\""},
                                              {"train.epochs", "0"}}));
}

TEST(ShippedRecipesTest, SmoothquantFixesItsScales) {
  EXPECT_EQ(as_map(shipped("smoothquant")), expected({{"weights.clip", "\"none\""},
                                                      {"smoothing.start", "\"smoothquant\""},
                                                      {"smoothing.scale", "\"fixed\""},
                                                      {"smoothing.shift", "\"off\""},
                                                      {"smoothing.qk", "\"off\""},
                                                      {"train.epochs", "0"}}));
}

TEST(ShippedRecipesTest, OmniquantHasItsOwnStartLossAndRate) {
  EXPECT_EQ(as_map(shipped("omniquant")), expected({{"smoothing.start", "\"smoothquant\""},
                                                    {"smoothing.shift", "\"off\""},
                                                    {"smoothing.qk", "\"free\""},
                                                    {"loss.nlc_p", "0.0"},
                                                    {"train.let_lr", "0.005"}}));
}

TEST(ShippedRecipesTest, LrquantIsThePapersRow) {
  EXPECT_EQ(as_map(shipped("lrquant")), expected({}));
}

TEST(ShippedRecipesTest, LrquantParityFollowsThePublishedCode) {
  EXPECT_EQ(as_map(shipped("lrquant-parity")),
            expected({{"smoothing.qk", "\"free\""},
                      {"smoothing.parametrization", "\"absolute\""},
                      {"loss.nlc_abs", "true"},
                      {"train.wave", "1"}}));
}

TEST(ShippedRecipesTest, LrquantExportHasNothingThatOtherFormatsCannotHold) {
  EXPECT_EQ(as_map(shipped("lrquant-export")), expected({{"weights.symmetric", "true"},
                                                         {"weights.zero_point", "false"},
                                                         {"activations.symmetric", "true"},
                                                         {"smoothing.shift", "\"off\""}}));
  EXPECT_EQ(as_map(shipped("lrquant-plus-export")),
            expected({{"weights.symmetric", "true"},
                      {"weights.zero_point", "false"},
                      {"activations.symmetric", "true"},
                      {"smoothing.shift", "\"off\""},
                      {"loss.mse_r", "1.0"},
                      {"loss.nlc_r", "1.0"},
                      {"rotation_vectors.form", "\"row\""}}));
}

TEST(ShippedRecipesTest, SchemesAddBitsAlone) {
  EXPECT_EQ(as_map(shipped("lrquant-w4a4")),
            expected({{"weights.bits", "4"}, {"activations.bits", "4"}}));
  EXPECT_EQ(as_map(shipped("lrquant-w6a6")),
            expected({{"weights.bits", "6"}, {"activations.bits", "6"}}));
}

TEST(ShippedRecipesTest, LrquantPlusAddsTheSecondTargetAndRotationVectors) {
  EXPECT_EQ(as_map(shipped("lrquant-plus")), expected({{"loss.mse_r", "1.0"},
                                                       {"loss.nlc_r", "1.0"},
                                                       {"rotation_vectors.form", "\"row\""}}));
  EXPECT_EQ(as_map(shipped("lrquant-plus-parity")),
            expected({{"smoothing.qk", "\"free\""},
                      {"smoothing.parametrization", "\"absolute\""},
                      {"loss.nlc_abs", "true"},
                      {"loss.mse_r", "1.0"},
                      {"loss.nlc_r", "1.0"},
                      {"rotation_vectors.form", "\"row\""},
                      {"rotation_vectors.layers", "\"q,o,up\""},
                      {"train.let_lr", "0.005"},
                      {"train.wave", "1"}}));
}

TEST(ShippedRecipesTest, WeightOnlySchemesSmoothNothingAndTakeTwiceTheEpochsAtTwoBits) {
  EXPECT_EQ(as_map(shipped("lrquant-plus-w2a16-g64")),
            expected({{"weights.bits", "2"},
                      {"weights.per", "\"group\""},
                      {"weights.group_size", "64"},
                      {"smoothing.scale", "\"off\""},
                      {"smoothing.shift", "\"off\""},
                      {"smoothing.qk", "\"off\""},
                      {"loss.mse_r", "1.0"},
                      {"loss.nlc_r", "1.0"},
                      {"rotation_vectors.form", "\"row\""},
                      {"train.epochs", "40"}}));
  EXPECT_EQ(as_map(shipped("lrquant-w3a16-g128")), expected({{"weights.bits", "3"},
                                                             {"weights.per", "\"group\""},
                                                             {"weights.group_size", "128"},
                                                             {"smoothing.scale", "\"off\""},
                                                             {"smoothing.shift", "\"off\""},
                                                             {"smoothing.qk", "\"off\""}}));
}

TEST(ShippedRecipesTest, EverySchemeOfTheLearnedMethodsIsThereWithTheBitsOfItsName) {
  const std::map<std::string, std::pair<std::string, std::string>> schemes = {
      {"w4a4", {"4", "4"}},        {"w6a6", {"6", "6"}},        {"w8a8", {"8", "8"}},
      {"w4a8", {"4", "8"}},        {"w2a16", {"2", "16"}},      {"w3a16", {"3", "16"}},
      {"w4a16", {"4", "16"}},      {"w2a16-g128", {"2", "16"}}, {"w3a16-g128", {"3", "16"}},
      {"w4a16-g128", {"4", "16"}}, {"w2a16-g64", {"2", "16"}},  {"w3a16-g64", {"3", "16"}},
      {"w4a16-g64", {"4", "16"}},
  };
  for (const char* method : {"lrquant", "lrquant-plus", "omniquant"}) {
    for (const auto& [scheme, bits] : schemes) {
      const auto recipe = as_map(shipped(std::string(method) + "-" + scheme));
      EXPECT_EQ(recipe.at("weights.bits"), bits.first) << method << scheme;
      EXPECT_EQ(recipe.at("activations.bits"), bits.second) << method << scheme;
    }
  }
}

// The presets' table of the papers' codes: rotation, K, T, lambda, alpha, clips, what is learned;
// the draws are ours.
std::map<std::string, std::string> duquant() {
  return {{"weights.clip", "0.8"},
          {"activations.clip", "0.9"},
          {"smoothing.start", "\"smoothquant\""},
          {"smoothing.alpha", "0.6"},
          {"smoothing.scale", "\"fixed\""},
          {"smoothing.shift", "\"off\""},
          {"smoothing.qk", "\"off\""},
          {"smoothing.down", "true"},
          {"rotation.kind", "\"greedy\""},
          {"rotation.steps", "256"},
          {"rotation.draws", "4"},
          {"rotation.qk", "\"hadamard\""},
          {"loss.nlc_p", "0.0"},
          {"train.epochs", "0"}};
}

std::map<std::string, std::string> but(std::map<std::string, std::string> fields,
                                       const std::map<std::string, std::string>& differs) {
  for (const auto& [name, value] : differs) fields[name] = value;
  return fields;
}

TEST(ShippedRecipesTest, RotationRecipesAreThePresetsOfTheirPapers) {
  const auto ruquant = but(duquant(), {{"rotation.kind", "\"uniform\""},
                                       {"rotation.steps", "16"},
                                       {"rotation.householder", "\"fixed\""}});
  EXPECT_EQ(as_map(shipped("duquant")), expected(duquant()));
  EXPECT_EQ(as_map(shipped("duquant-lwc")),
            expected(but(duquant(), {{"weights.clip", "\"learned\""},
                                     {"smoothing.alpha", "0.5"},
                                     {"train.epochs", "20"}})));
  EXPECT_EQ(as_map(shipped("ruquant")), expected(ruquant));
  EXPECT_EQ(as_map(shipped("ruquant-lh")),
            expected(but(ruquant, {{"rotation.draws", "1"},
                                   {"rotation.householder", "\"learned\""},
                                   {"train.epochs", "20"}})));
  EXPECT_EQ(as_map(shipped("lrq-w4a4")),
            expected(but(ruquant, {{"weights.bits", "4"},
                                   {"weights.rounding", "\"gptq\""},
                                   {"activations.bits", "4"},
                                   {"activations.clip", "\"learned\""},
                                   {"activations.clip_start", "0.9"},
                                   {"activations.exact_tokens", "1"},
                                   {"rotation.draws", "1"},
                                   {"rotation.householder", "\"learned\""},
                                   {"loss.nlc_p", "1.0"},
                                   {"loss.mse_scale", "\"token_energy\""},
                                   {"train.epochs", "20"},
                                   {"train.wave", "1"}})));
  EXPECT_EQ(as_map(shipped("ruquant-w6a6")),
            expected(but(ruquant, {{"weights.bits", "6"},
                                   {"weights.clip", "\"none\""},
                                   {"activations.bits", "6"},
                                   {"activations.clip", "\"none\""}})));
}

std::map<std::string, std::string> rptq() {
  return {{"weights.clip", "\"none\""},
          {"weights.rounding", "\"gptq\""},
          {"smoothing.start", "\"ones\""},
          {"smoothing.scale", "\"off\""},
          {"smoothing.shift", "\"off\""},
          {"smoothing.qk", "\"off\""},
          {"clusters.kind", "\"kmeans\""},
          {"train.epochs", "0"},
          {"train.wave", "1"},
          {"gptq.inputs", "\"plain\""},
          {"gptq.sequential", "false"}};
}

TEST(ShippedRecipesTest, RptqClustersAndRoundsByGptqAndLearnsNothing) {
  EXPECT_EQ(as_map(shipped("rptq")), expected(rptq()));
  EXPECT_EQ(as_map(shipped("rptq-parity")),
            expected(but(rptq(), {{"clusters.range", "\"ema\""},
                                  {"clusters.levels", "\"one_more\""},
                                  {"clusters.min_cluster", "1"},
                                  {"clusters.range_floor", "0.0"}})));
}

TEST(ShippedRecipesTest, RptqSchemesHaveTheBitsOfTheirNames) {
  struct Scheme {
    const char* name;
    const char* weights;
    const char* activations;
    const char* kv;
  };
  for (const Scheme& scheme : {Scheme{"w4a16", "4", "16", "0"}, Scheme{"w4a8", "4", "8", "0"},
                               Scheme{"w4a4", "4", "4", "0"}, Scheme{"w4a3", "4", "3", "0"},
                               Scheme{"w4a4kv", "4", "16", "4"}, Scheme{"w4a3kv", "4", "16", "3"},
                               Scheme{"w3a3kv", "3", "16", "3"}}) {
    EXPECT_EQ(as_map(shipped(std::string("rptq-") + scheme.name)),
              expected(but(rptq(), {{"weights.bits", scheme.weights},
                                    {"activations.bits", scheme.activations},
                                    {"activations.kv_bits", scheme.kv}})))
        << scheme.name;
  }
}

TEST(ShippedRecipesTest, LaeStartIsLrquantWithoutLearning) {
  EXPECT_EQ(as_map(shipped("lae-start")), expected({{"train.epochs", "0"}}));
}

TEST(ShippedRecipesTest, EveryFileReadsBackFromItsMergedTextAndIsValidOnceBitsAreGiven) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kRecipes)) {
    if (entry.path().extension() != ".toml") continue;
    ++count;
    Recipe recipe = shipped(entry.path().stem().string());
    EXPECT_EQ(recipe.name, entry.path().stem().string());
    const std::string text = to_toml(recipe);
    EXPECT_EQ(fields(parse_recipe(text, recipe.name, shipped_text)), fields(recipe)) << text;
    if (recipe.weights.bits == 0) set_field(recipe, "weights.bits=4");
    EXPECT_NO_THROW(validate(recipe)) << recipe.name;
  }
  EXPECT_GE(count, 9);
}

}  // namespace
}  // namespace lrq::recipe

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::recipe {
namespace {

/// A valid recipe with these fields changed.
Recipe with(const std::vector<std::string>& assignments) {
  Recipe recipe;
  set_field(recipe, "weights.bits=4");
  for (const std::string& assignment : assignments) set_field(recipe, assignment);
  return recipe;
}

std::string refusal(const Recipe& recipe) {
  try {
    validate(recipe);
  } catch (const UsageError& error) {
    EXPECT_FALSE(error.text().where.empty());
    EXPECT_FALSE(error.text().fix.empty());
    return error.text().what;
  }
  return "accepted";
}

TEST(ValidateTest, AMethodWithoutBitsNeedsWbits) {
  Recipe recipe;
  recipe.name = "lrquant";
  EXPECT_NE(refusal(recipe).find("needs --wbits"), std::string::npos);
}

TEST(ValidateTest, BitsAreTwoToSixteen) {
  EXPECT_EQ(refusal(with({"weights.bits=1"})),
            "weights.bits is 1, expected 2 to 16 (16: not quantized)");
  EXPECT_EQ(refusal(with({"weights.bits=17"})),
            "weights.bits is 17, expected 2 to 16 (16: not quantized)");
  EXPECT_EQ(refusal(with({"activations.bits=0"})),
            "activations.bits is 0, expected 2 to 16 (16: not quantized)");
  EXPECT_EQ(refusal(with({"activations.kv_bits=1"})),
            "activations.kv_bits is 1, expected 2 to 16 (16: not quantized)");
  EXPECT_EQ(refusal(with({"weights.bits=2", "activations.bits=16", "activations.kv_bits=8"})),
            "accepted");
}

TEST(ValidateTest, AGroupSizeAndGroupsComeTogether) {
  EXPECT_EQ(refusal(with({"weights.per=group"})),
            "weights.group_size is 0, expected a positive number with per = \"group\"");
  EXPECT_EQ(refusal(with({"weights.group_size=64"})),
            "weights.group_size is 64, expected 0 with per = \"channel\"");
  EXPECT_EQ(refusal(with({"weights.per=group", "weights.group_size=64"})), "accepted");
}

TEST(ValidateTest, OnlySymmetricGridsGoWithoutAZeroPoint) {
  EXPECT_EQ(refusal(with({"weights.zero_point=false"})),
            "weights.zero_point is false, expected true unless weights.symmetric is true");
  EXPECT_EQ(refusal(with({"weights.zero_point=false", "weights.symmetric=true"})), "accepted");
}

TEST(ValidateTest, RatiosLieInTheirRanges) {
  EXPECT_EQ(refusal(with({"weights.clip=0"})),
            "weights.clip is 0.0, expected a ratio above 0 and at most 1");
  EXPECT_EQ(refusal(with({"weights.clip=1.01"})),
            "weights.clip is 1.01, expected a ratio above 0 and at most 1");
  EXPECT_EQ(refusal(with({"weights.clip=nan"})),
            "weights.clip is nan, expected a ratio above 0 and at most 1");
  EXPECT_EQ(refusal(with({"weights.clip=1"})), "accepted");
  EXPECT_EQ(refusal(with({"smoothing.alpha=-0.1"})),
            "smoothing.alpha is -0.1, expected a number from 0 to 1");
  EXPECT_EQ(refusal(with({"smoothing.alpha=1"})), "accepted");
}

TEST(ValidateTest, CountsAndRatesAreNotNegative) {
  EXPECT_EQ(refusal(with({"train.epochs=-1"})), "train.epochs is -1, expected at least 0");
  EXPECT_EQ(refusal(with({"train.batch_size=0"})), "train.batch_size is 0, expected at least 1");
  EXPECT_EQ(refusal(with({"train.wave=0"})), "train.wave is 0, expected at least 1");
  EXPECT_EQ(refusal(with({"train.let_lr=-1e-3"})),
            "train.let_lr is -0.001, expected a finite number >= 0");
  EXPECT_EQ(refusal(with({"train.lwc_lr=inf"})),
            "train.lwc_lr is inf, expected a finite number >= 0");
  EXPECT_EQ(refusal(with({"train.let_lr=0"})), "accepted");
}

TEST(ValidateTest, LearningNeedsALoss) {
  EXPECT_NE(refusal(with({"loss.mse_p=0", "loss.nlc_p=0"})), "accepted");
  EXPECT_EQ(refusal(with({"loss.mse_p=0", "loss.nlc_p=0", "train.epochs=0"})), "accepted");
  EXPECT_EQ(refusal(with({"loss.mse_p=-1"})), "loss.mse_p is -1.0, expected a finite number >= 0");
}

/// Clusters in a recipe that may have them.
Recipe clusters_with(const std::vector<std::string>& assignments) {
  std::vector<std::string> all = {"clusters.kind=kmeans", "weights.clip=none", "train.epochs=0",
                                  "train.wave=1", "smoothing.shift=off"};
  all.insert(all.end(), assignments.begin(), assignments.end());
  return with(all);
}

TEST(ValidateTest, ClustersNameWhatTheyCannotStandBeside) {
  EXPECT_EQ(refusal(clusters_with({})), "accepted");
  EXPECT_EQ(refusal(clusters_with({"train.wave=8", "train.schedule=independent"})), "accepted");
  EXPECT_EQ(
      refusal(clusters_with({"train.wave=8"})),
      "train.wave is 8, expected 1 (clusters need all samples of a block; or train.schedule = "
      "\"independent\") beside clusters.kind");
  EXPECT_EQ(refusal(clusters_with({"rotation.kind=greedy"})),
            "rotation.kind is \"greedy\", expected \"off\" beside clusters.kind");
  for (const char* refused :
       {"weights.clip=learned", "weights.symmetric=true", "weights.include_zero=true",
        "activations.symmetric=true", "activations.clip=0.9", "activations.exact_tokens=1",
        "activations.qkv_granularity=per_token", "rotation.householder=fixed",
        "rotation.qk=hadamard", "rotation_vectors.form=row", "train.epochs=1",
        "train.keep_best=true"}) {
    const std::string name = std::string(refused).substr(0, std::string(refused).find('='));
    const std::string told = refusal(clusters_with({refused}));
    EXPECT_EQ(told.substr(0, name.size()), name) << told;
    EXPECT_NE(told.find("beside clusters.kind"), std::string::npos) << told;
  }
  const Recipe groups = clusters_with({"weights.per=group", "weights.group_size=64"});
  EXPECT_EQ(refusal(groups), "weights.per is \"group\", expected \"channel\" beside clusters.kind");
}

TEST(ValidateTest, ShiftsOfValuesNeedProbabilitiesThatSumToOne) {
  EXPECT_EQ(refusal(clusters_with({"activations.bits=4", "smoothing.shift=statistic"})),
            "smoothing.shift is \"statistic\", expected \"off\" unless clusters.probabilities is "
            "false beside clusters.kind");
  EXPECT_EQ(refusal(clusters_with({"activations.bits=4", "smoothing.shift=statistic",
                                   "clusters.probabilities=false"})),
            "accepted");
}

TEST(ValidateTest, SitesOfClustersAreDigitsEachOnce) {
  EXPECT_EQ(refusal(clusters_with({"clusters.sites=135"})), "accepted");
  EXPECT_EQ(refusal(clusters_with({"clusters.sites=\"\""})), "accepted");
  EXPECT_EQ(refusal(clusters_with({"clusters.sites=122"})),
            "clusters.sites is \"122\", expected some of the digits 1 to 5, each at most once");
  EXPECT_NE(refusal(clusters_with({"clusters.sites=16"})), "accepted");
  EXPECT_NE(refusal(clusters_with({"clusters.heads=0"})), "accepted");
  EXPECT_NE(refusal(clusters_with({"clusters.norm_out_bits=1"})), "accepted");
}

TEST(ValidateTest, GptqNeedsABlockOnItsOwn) {
  EXPECT_EQ(refusal(with({"weights.rounding=gptq", "train.wave=1"})), "accepted");
  EXPECT_EQ(refusal(with({"weights.rounding=gptq", "train.schedule=independent"})), "accepted");
  EXPECT_NE(refusal(with({"weights.rounding=gptq", "train.wave=2"})), "accepted");
}

}  // namespace
}  // namespace lrq::recipe

#include "src/recipe/recipe_toml.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::recipe {
namespace {

RecipeLookup nothing() {
  return [](const std::string&) { return std::nullopt; };
}

RecipeLookup among(std::map<std::string, std::string> texts) {
  return [texts = std::move(texts)](const std::string& name) -> std::optional<std::string> {
    const auto found = texts.find(name);
    return found == texts.end() ? std::nullopt : std::optional(found->second);
  };
}

ErrorText refusal(const std::string& text, const RecipeLookup& lookup = nothing()) {
  try {
    (void)parse_recipe(text, "mine.toml", lookup);
  } catch (const UsageError& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.text();
  }
  ADD_FAILURE() << "not refused: " << text;
  return {};
}

ErrorText refused_assignment(const std::string& assignment) {
  Recipe recipe;
  try {
    set_field(recipe, assignment);
  } catch (const UsageError& error) {
    return error.text();
  }
  ADD_FAILURE() << "not refused: " << assignment;
  return {};
}

TEST(RecipeTomlTest, AnEmptyTextIsTheDefaults) {
  EXPECT_EQ(fields(parse_recipe("", "mine.toml", nothing())), fields(Recipe{}));
}

TEST(RecipeTomlTest, TheNameIsTheFilesStem) {
  EXPECT_EQ(parse_recipe("", "some/where/mine.toml", nothing()).name, "mine");
  EXPECT_EQ(parse_recipe("", "lrquant", nothing()).name, "lrquant");
}

TEST(RecipeTomlTest, EveryTableIsRead) {
  const Recipe recipe = parse_recipe(R"(
description = "mine"
weights = { bits = 3, per = "group", group_size = 64, symmetric = true, clip = 0.9 }
[activations]
bits = 8
quantize_q = false
qkv_granularity = "per_token"
[smoothing]
start = "ones"
parametrization = "absolute"
[loss]
nlc_reduction = "token_log_then_mean"
nlc_p = 2
[train]
let_lr = 5e-3
schedule = "independent"
store = "bfloat16"
)",
                                     "mine.toml", nothing());
  EXPECT_EQ(recipe.weights.bits, 3);
  EXPECT_EQ(recipe.weights.per, Per::kGroup);
  EXPECT_EQ(recipe.weights.group_size, 64);
  EXPECT_TRUE(recipe.weights.symmetric);
  EXPECT_EQ(recipe.weights.clip, ClipKind::kRatio);
  EXPECT_DOUBLE_EQ(recipe.weights.clip_ratio, 0.9);
  EXPECT_EQ(recipe.activations.bits, 8);
  EXPECT_FALSE(recipe.activations.quantize_q);
  EXPECT_TRUE(recipe.activations.quantize_kv);
  EXPECT_EQ(recipe.activations.qkv_granularity, QkvGranularity::kPerToken);
  EXPECT_EQ(recipe.smoothing.start, Start::kOnes);
  EXPECT_EQ(recipe.smoothing.parametrization, Parametrization::kAbsolute);
  EXPECT_EQ(recipe.loss.nlc_reduction, NlcReduction::kTokenLogThenMean);
  EXPECT_DOUBLE_EQ(recipe.loss.nlc_p, 2.0);  // a whole number serves where a number is expected
  EXPECT_DOUBLE_EQ(recipe.train.let_lr, 0.005);
  EXPECT_EQ(recipe.train.schedule, Schedule::kIndependent);
  EXPECT_EQ(recipe.train.store, Store::kBfloat16);
}

TEST(RecipeTomlTest, AMisspeltKeyNamesItsLineAndTheNearestKey) {
  const ErrorText text = refusal("[train]\nepochs = 3\nepohcs = 4\n");
  EXPECT_EQ(text.what, "unknown recipe key 'train.epohcs'");
  EXPECT_EQ(text.where, "mine.toml, line 3");
  EXPECT_EQ(text.fix, "did you mean train.epochs?");
}

TEST(RecipeTomlTest, AKeyInTheWrongTableIsToldWhereItBelongs) {
  EXPECT_EQ(refusal("loss = { wave = 4 }").fix, "did you mean train.wave?");
  EXPECT_EQ(refusal("wave = 4").fix, "did you mean train.wave?");
}

TEST(RecipeTomlTest, AMisspeltTableNamesTheNearestTable) {
  const ErrorText text = refusal("\n[smothing]\nstart = \"lae\"\n");
  EXPECT_EQ(text.what, "unknown recipe table 'smothing'");
  EXPECT_EQ(text.where, "mine.toml, line 2");
  EXPECT_EQ(text.fix, "did you mean smoothing?");
}

TEST(RecipeTomlTest, AWrongTypeSaysWhatWasFoundAndExpected) {
  EXPECT_EQ(
      refusal("train = { epochs = \"many\" }").what,
      "train.epochs is \"many\" (a string), expected an integer from -2147483648 to 2147483647");
  EXPECT_EQ(refusal("train = { epochs = 2.5 }").what,
            "train.epochs is 2.5 (a number), expected an integer from -2147483648 to 2147483647");
  EXPECT_EQ(refusal("train = { wave = 99999999999 }").what,
            "train.wave is 99999999999 (an integer), expected an integer from -2147483648 to "
            "2147483647");
  EXPECT_EQ(refusal("weights = { symmetric = 1 }").what,
            "weights.symmetric is 1 (an integer), expected true or false");
  EXPECT_EQ(refusal("smoothing = { qk = \"tight\" }").what,
            "smoothing.qk is \"tight\" (a string), expected one of \"tied\", \"free\", \"off\"");
  EXPECT_EQ(refusal("weights = { clip = \"some\" }").what,
            "weights.clip is \"some\" (a string), expected \"learned\", \"none\" or a ratio such "
            "as 0.9");
  EXPECT_EQ(refusal("train = 4").what,
            "train is a value of the TOML type integer, expected a table");
  EXPECT_EQ(refusal("train = { wave = [4] }").what,
            "train.wave is a value of the TOML type array, expected an integer from -2147483648 to "
            "2147483647");
  EXPECT_EQ(refusal("base = 4").what,
            "base is a value of the TOML type integer, expected a string");
}

TEST(RecipeTomlTest, ATextThatIsNotTomlNamesItsLine) {
  const ErrorText text = refusal("[train]\nwave = = 4\n");
  EXPECT_EQ(text.where, "mine.toml, line 2");
  EXPECT_EQ(text.what.rfind("not readable as TOML: ", 0), 0U) << text.what;
}

TEST(RecipeTomlTest, ARecipeChangesWhatItsBasesSay) {
  const auto lookup = among({{"middle", "base = \"root\"\ntrain = { wave = 2 }"},
                             {"root", "train = { wave = 1, epochs = 7 }\nweights = { bits = 4 }"}});
  const Recipe recipe = parse_recipe("base = \"middle\"\nweights = { bits = 6 }", "mine", lookup);
  EXPECT_EQ(recipe.train.epochs, 7);
  EXPECT_EQ(recipe.train.wave, 2);
  EXPECT_EQ(recipe.weights.bits, 6);
  EXPECT_EQ(recipe.name, "mine");
}

TEST(RecipeTomlTest, ABaseThatComesBackToItselfIsRefused) {
  const auto lookup = among({{"a", "base = \"b\""}, {"b", "base = \"a\""}});
  const ErrorText text = refusal("base = \"a\"", lookup);
  EXPECT_EQ(text.what, "the recipe is its own base: mine -> a -> b -> a");
  EXPECT_EQ(text.where, "recipe b, line 1");
  EXPECT_EQ(refusal("base = \"mine\"", lookup).what, "the recipe is its own base: mine -> mine");
}

TEST(RecipeTomlTest, AnUnknownBaseIsRefused) {
  EXPECT_EQ(refusal("base = \"lrqant\"").what, "no recipe has the name 'lrqant'");
}

TEST(RecipeTomlTest, AnErrorInABaseNamesTheBase) {
  EXPECT_EQ(refusal("base = \"a\"", among({{"a", "\ntrain = { wav = 1 }"}})).where,
            "recipe a, line 2");
}

TEST(SetFieldTest, SetsNumbersWordsAndSwitches) {
  Recipe recipe;
  set_field(recipe, "train.wave=4");
  set_field(recipe, "train.let_lr=5e-3");
  set_field(recipe, "smoothing.start=smoothquant");
  set_field(recipe, "smoothing.qk=\"free\"");
  set_field(recipe, "loss.nlc_abs=true");
  set_field(recipe, "weights.clip=0.95");
  EXPECT_EQ(recipe.train.wave, 4);
  EXPECT_DOUBLE_EQ(recipe.train.let_lr, 0.005);
  EXPECT_EQ(recipe.smoothing.start, Start::kSmoothquant);
  EXPECT_EQ(recipe.smoothing.qk, Qk::kFree);
  EXPECT_TRUE(recipe.loss.nlc_abs);
  EXPECT_EQ(recipe.weights.clip, ClipKind::kRatio);
  set_field(recipe, "weights.clip=none");
  EXPECT_EQ(recipe.weights.clip, ClipKind::kNone);
}

TEST(SetFieldTest, RefusesWhatIsNotAFieldOrNotItsValue) {
  EXPECT_EQ(refused_assignment("train.wave").what,
            "no '=' in 'train.wave', expected table.field=value");
  EXPECT_EQ(refused_assignment("train.wawe=4").fix, "did you mean train.wave?");
  EXPECT_EQ(refused_assignment("wave=4").fix, "did you mean train.wave?");
  EXPECT_EQ(
      refused_assignment("train.wave=four").what,
      "train.wave is \"four\" (a string), expected an integer from -2147483648 to 2147483647");
  EXPECT_EQ(refused_assignment("train.wave=").what,
            "train.wave is \"\" (a string), expected an integer from -2147483648 to 2147483647");
  EXPECT_EQ(refused_assignment("train.wave=4\nepochs = 1").where,
            "option --set train.wave=4\nepochs = 1");
}

TEST(FieldsTest, EveryFieldIsATomlValueOfTheRightSpelling) {
  Recipe recipe;
  recipe.weights.clip = ClipKind::kRatio;
  recipe.weights.clip_ratio = 0.9;
  const auto all = fields(recipe);
  const auto text_of = [&](const std::string& name) {
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const auto& field) { return field.first == name; });
    return found == all.end() ? std::string("absent") : found->second;
  };
  EXPECT_EQ(text_of("weights.clip"), "0.9");
  EXPECT_EQ(text_of("weights.per"), "\"channel\"");
  EXPECT_EQ(text_of("loss.mse_p"), "1.0");
  EXPECT_EQ(text_of("loss.nlc_reduction"), "\"token_mean_then_log\"");
  EXPECT_EQ(text_of("train.let_lr"), "0.001");
  EXPECT_EQ(text_of("train.nonfinite"), "\"restore\"");
  EXPECT_EQ(all.front().first, "weights.bits");
  EXPECT_EQ(all.back().first, "tta.lwc_lr");
}

TEST(ToTomlTest, ReadsBackToTheSameValueWhateverTheFieldsAre) {
  Recipe recipe;
  recipe.weights = {.bits = 2,
                    .per = Per::kGroup,
                    .group_size = 64,
                    .symmetric = true,
                    .zero_point = false,
                    .clip = ClipKind::kRatio,
                    .clip_ratio = 0.1 + 0.2,
                    .include_zero = true};
  recipe.smoothing = {.start = Start::kOnes,
                      .alpha = 1.0 / 3.0,
                      .scale = Scale::kFixed,
                      .shift = Shift::kStatistic,
                      .qk = Qk::kOff,
                      .parametrization = Parametrization::kAbsolute};
  recipe.train.let_lr = 1e-30;
  recipe.train.lwc_lr = 1e30;
  recipe.train.emit = Emit::kPost;
  recipe.train.nonfinite = Nonfinite::kStop;
  recipe.train.lr_schedule = LrSchedule::kLinear;
  const std::string text = to_toml(recipe);
  EXPECT_EQ(fields(parse_recipe(text, "again", nothing())), fields(recipe)) << text;
}

}  // namespace
}  // namespace lrq::recipe

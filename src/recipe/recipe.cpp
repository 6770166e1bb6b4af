#include "src/recipe/recipe.h"

#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/recipe/field_table.h"

namespace lrq::recipe {
namespace {

/// Refuses values with the field's name and the value as TOML writes it.
class Check {
 public:
  explicit Check(const Recipe& recipe) : recipe_(recipe) {}

  void that(bool holds, const std::string& name, const std::string& expected,
            const std::string& fix) const {
    if (holds) return;
    throw UsageError({.what = concat(name, " is ", text_of(name), ", expected ", expected),
                      .where = recipe_.name.empty() ? concat("recipe field ", name)
                                                    : concat("recipe ", recipe_.name, ", ", name),
                      .fix = fix});
  }

  void bits(const std::string& name, int value) const {
    that(value >= 2 && value <= 16, name, "2 to 16 (16: not quantized)",
         concat("set it with --set ", name, "=8 or in the recipe"));
  }

  void not_negative(const std::string& name, double value) const {
    that(std::isfinite(value) && value >= 0.0, name, "a finite number >= 0",
         concat("set it with --set ", name, "=... or in the recipe"));
  }

  void at_least(int smallest, const std::string& name, int value) const {
    that(value >= smallest, name, concat("at least ", smallest),
         concat("set it with --set ", name, "=", smallest, " or in the recipe"));
  }

 private:
  [[nodiscard]] std::string text_of(const std::string& name) const {
    for (const Field& field : field_table()) {
      if (field.name == name) return value_text(field.get(recipe_));
    }
    return "?";
  }

  const Recipe& recipe_;  // borrowed for one validate() call
};

void check_weights(const Recipe::Weights& weights, const std::string& name, const Check& check) {
  if (weights.bits == 0) {
    throw UsageError({.what = concat("the recipe does not say how many bits the weights have: it "
                                     "needs --wbits"),
                      .where = name.empty() ? std::string("recipe field weights.bits")
                                            : concat("recipe ", name, ", weights.bits"),
                      .fix = "add --wbits 4 (and --abits 4 for activations), or name a scheme such "
                             "as --recipe lrquant-w4a4"});
  }
  check.bits("weights.bits", weights.bits);
  if (weights.per == Per::kGroup) {
    check.that(weights.group_size > 0, "weights.group_size",
               "a positive number with per = \"group\"",
               "add --group-size 128, or set weights.per=channel");
  } else {
    check.that(weights.group_size == 0, "weights.group_size", "0 with per = \"channel\"",
               "set weights.per=group, or leave the group size out");
  }
  check.that(weights.zero_point || weights.symmetric, "weights.zero_point",
             "true unless weights.symmetric is true",
             "set weights.symmetric=true, or leave weights.zero_point out");
  if (weights.clip == ClipKind::kRatio) {
    check.that(weights.clip_ratio > 0.0 && weights.clip_ratio <= 1.0, "weights.clip",
               "a ratio above 0 and at most 1", "set weights.clip=0.9, learned or none");
  }
}

void check_train(const Recipe& recipe, const Check& check) {
  const Recipe::Train& train = recipe.train;
  check.at_least(0, "train.epochs", train.epochs);
  check.at_least(1, "train.batch_size", train.batch_size);
  check.at_least(1, "train.wave", train.wave);
  check.not_negative("train.let_lr", train.let_lr);
  check.not_negative("train.lwc_lr", train.lwc_lr);
  check.not_negative("train.wd", train.wd);
  const Recipe::Loss& loss = recipe.loss;
  check.not_negative("loss.mse_p", loss.mse_p);
  check.not_negative("loss.nlc_p", loss.nlc_p);
  check.not_negative("loss.mse_r", loss.mse_r);
  check.not_negative("loss.nlc_r", loss.nlc_r);
  check.that(loss.massive_above > 1.0 && std::isfinite(loss.massive_above), "loss.massive_above",
             "a number above 1 (times the median norm)", "set loss.massive_above=10");
  const bool any_loss = loss.mse_p > 0 || loss.nlc_p > 0 || loss.mse_r > 0 || loss.nlc_r > 0;
  check.that(train.epochs == 0 || any_loss, "train.epochs",
             "0 where every weight of the table loss is 0 (nothing to learn from)",
             "set loss.mse_p=1 or loss.nlc_p=1, or --epochs 0");
}

void check_rotation(const Recipe::RotationVectors& rotation, const Check& check) {
  check.at_least(1, "rotation_vectors.rank", rotation.rank);
  check.that(rotation.rank == 1 || rotation.form == RotationForm::kOuter, "rotation_vectors.rank",
             "1 unless rotation_vectors.form is \"outer\"",
             "set rotation_vectors.form=outer, or leave the rank out");
  check.not_negative("rotation_vectors.lr", rotation.lr);
}

void check_activations(const Recipe::Activations& activations, const Check& check) {
  check.bits("activations.bits", activations.bits);
  if (activations.kv_bits != 0) check.bits("activations.kv_bits", activations.kv_bits);
  if (activations.clip == ClipKind::kRatio) {
    check.that(activations.clip_ratio > 0.0 && activations.clip_ratio <= 1.0, "activations.clip",
               "a ratio above 0 and at most 1", "set activations.clip=0.9, learned or none");
  }
  check.that(activations.clip_start > 0.0 && activations.clip_start < 1.0, "activations.clip_start",
             "a number between 0 and 1", "set activations.clip_start=0.9");
  check.at_least(0, "activations.exact_tokens", activations.exact_tokens);
}

void check_basis(const Recipe& recipe, const Check& check) {
  const Recipe::Rotation& rotation = recipe.rotation;
  const bool off = rotation.kind == RotationKind::kOff && rotation.householder == Householder::kOff;
  check.that(rotation.block_size >= -1 && rotation.block_size != 1, "rotation.block_size",
             "0 (chosen by width), -1 (the whole width) or at least 2",
             "set rotation.block_size=64");
  check.that(rotation.kind != RotationKind::kUniform || rotation.block_size < 0 ||
                 rotation.block_size % 2 == 0,
             "rotation.block_size", "even with rotation.kind = \"uniform\" (pairs are turned)",
             "set rotation.block_size=64");
  check.at_least(1, "rotation.steps", rotation.steps);
  check.at_least(1, "rotation.draws", rotation.draws);
  check.at_least(0, "rotation.permutations", rotation.permutations);
  check.at_least(0, "rotation.random_permutations", rotation.random_permutations);
  check.not_negative("rotation.lr", rotation.lr);
  check.at_least(1, "rotation.calib_tokens", rotation.calib_tokens);
  const bool waits = !off && rotation.calib == RotationCalib::kTokens;
  const bool sequential = recipe.train.wave == 1 && recipe.train.schedule == Schedule::kWaves;
  check.that(!waits || sequential, "rotation.calib",
             "\"mean\" unless train.wave is 1 (maps from tokens need the finished blocks before)",
             "add --wave 1, or set rotation.calib=mean");
  const bool alone = sequential || recipe.train.schedule == Schedule::kIndependent;
  const bool gptq = recipe.weights.rounding == Rounding::kGptq && recipe.weights.bits < 16;
  const std::string instead = "set weights.rounding=nearest, or ";
  check.that(!gptq || alone, "weights.rounding",
             "\"nearest\" unless train.wave is 1 or train.schedule \"independent\" (GPTQ needs all "
             "samples of a block)",
             instead + "add --wave 1");
  check.that(!gptq || !recipe.train.keep_best, "weights.rounding",
             "\"nearest\" where train.keep_best is true", instead + "train.keep_best=false");
  check.that(!gptq || recipe.rotation_vectors.form == RotationForm::kOff, "weights.rounding",
             "\"nearest\" beside rotation vectors", instead + "rotation_vectors.form=off");
  check.that(recipe.gptq.damping > 0.0 && std::isfinite(recipe.gptq.damping), "gptq.damping",
             "a number above 0", "set gptq.damping=0.01");
}

void check_cluster_numbers(const ClusterRecipe& clusters, const Check& check) {
  check.at_least(1, "clusters.norms", clusters.norms);
  check.at_least(1, "clusters.heads", clusters.heads);
  check.at_least(1, "clusters.mlp", clusters.mlp);
  check.at_least(1, "clusters.min_cluster", clusters.min_cluster);
  check.that(std::isfinite(clusters.range_floor) && clusters.range_floor >= 0.0 &&
                 clusters.range_floor <= 1.0,
             "clusters.range_floor", "a number from 0 to 1", "set clusters.range_floor=0.004");
  const int bits = clusters.norm_out_bits;
  check.that(bits == 0 || (bits >= 2 && bits <= 16), "clusters.norm_out_bits",
             "0 (as activations.bits) or 2 to 16", "set clusters.norm_out_bits=8");
  std::string left = "12345";
  bool known = true;
  for (const char site : clusters.sites) {
    const auto place = left.find(site);
    known = known && place != std::string::npos;
    if (place != std::string::npos) left.erase(place, 1);
  }
  check.that(known, "clusters.sites", "some of the digits 1 to 5, each at most once",
             "set clusters.sites=12345");
}

/// What clusters replace, or what would have to be known before or after them.
void check_clusters(const Recipe& recipe, const Check& check) {
  check_cluster_numbers(recipe.clusters, check);
  if (recipe.clusters.kind == ClusterKind::kOff) return;
  const auto needs = [&](bool holds, const char* name, const char* expected, const char* fix) {
    check.that(holds, name, concat(expected, " beside clusters.kind"),
               concat(fix, ", or set clusters.kind=off"));
  };
  const Recipe::Train& train = recipe.train;
  needs(train.wave == 1 || train.schedule == Schedule::kIndependent, "train.wave",
        "1 (clusters need all samples of a block; or train.schedule = \"independent\")",
        "add --wave 1");
  needs(!train.keep_best, "train.keep_best", "false", "set train.keep_best=false");
  needs(train.epochs == 0, "train.epochs", "0 (nothing is learned)", "add --epochs 0");
  needs(recipe.weights.per == Per::kChannel, "weights.per", "\"channel\"",
        "set weights.per=channel");
  needs(!recipe.weights.symmetric, "weights.symmetric", "false", "set weights.symmetric=false");
  needs(!recipe.weights.include_zero, "weights.include_zero", "false",
        "set weights.include_zero=false");
  needs(recipe.weights.clip == ClipKind::kNone, "weights.clip", "\"none\"",
        "set weights.clip=none");
  const Recipe::Activations& activations = recipe.activations;
  needs(!activations.symmetric, "activations.symmetric", "false",
        "set activations.symmetric=false");
  needs(activations.clip == ClipKind::kNone, "activations.clip", "\"none\"",
        "set activations.clip=none");
  needs(activations.exact_tokens == 0, "activations.exact_tokens", "0",
        "set activations.exact_tokens=0");
  needs(activations.qkv_granularity == QkvGranularity::kFamily, "activations.qkv_granularity",
        "\"family\" (clusters say what shares a range)", "set activations.qkv_granularity=family");
  // A shift of values is exact only where probabilities sum to 1, which rounded ones do not.
  const bool rounded = recipe.clusters.probabilities && activations.bits < 16;
  needs(!rounded || recipe.smoothing.shift == Shift::kOff, "smoothing.shift",
        "\"off\" unless clusters.probabilities is false", "set smoothing.shift=off");
  const Recipe::Rotation& rotation = recipe.rotation;
  needs(rotation.kind == RotationKind::kOff, "rotation.kind", "\"off\"", "set rotation.kind=off");
  needs(rotation.householder == Householder::kOff, "rotation.householder", "\"off\"",
        "set rotation.householder=off");
  needs(rotation.qk == QkRotation::kOff, "rotation.qk", "\"off\"", "set rotation.qk=off");
  needs(recipe.rotation_vectors.form == RotationForm::kOff, "rotation_vectors.form", "\"off\"",
        "set rotation_vectors.form=off");
}

}  // namespace

std::vector<std::pair<std::string, std::string>> fields(const Recipe& recipe) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Field& field : field_table()) {
    out.emplace_back(field.name, value_text(field.get(recipe)));
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> calibration_fields(const Recipe& recipe) {
  auto all = fields(recipe);
  std::erase_if(all, [](const auto& field) { return field.first.starts_with("tta."); });
  return all;
}

void validate(const Recipe& recipe) {
  const Check check(recipe);
  check_weights(recipe.weights, recipe.name, check);
  check_activations(recipe.activations, check);
  check.that(recipe.smoothing.alpha >= 0.0 && recipe.smoothing.alpha <= 1.0, "smoothing.alpha",
             "a number from 0 to 1", "set smoothing.alpha=0.5");
  check_rotation(recipe.rotation_vectors, check);
  check_basis(recipe, check);
  check_clusters(recipe, check);
  check.at_least(1, "tta.epochs", recipe.tta.epochs);
  check.not_negative("tta.let_lr", recipe.tta.let_lr);
  check.not_negative("tta.lwc_lr", recipe.tta.lwc_lr);
  check_train(recipe, check);
}

}  // namespace lrq::recipe

// With nothing rounded, changes of basis leave a whole model's perplexity alone: each kind, every
// pair at one site, and what every shipped recipe does.
#include <cmath>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "io/block_state_store.h"
#include "io/token_file.h"
#include "src/base/log.h"
#include "src/models/learnables.h"
#include "src/models/site_maps.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/calibration.h"
#include "src/pipeline/frozen_stage.h"
#include "tests/dist/threads.h"
#include "tests/fakes/scratch_folder.h"
#include "tests/pipeline/shipped_recipe.h"
#include "tests/transform/random_parameter.h"

namespace lrq::pipeline {
namespace {

using models::NamedTensors;

constexpr double kTolerance = 1e-4;

at::Tensor ids_of(std::int64_t rows, std::int64_t length) {
  return (at::arange(rows * length) * 37 % 509 + 3).to(at::kInt).view({rows, length});
}

/// The 260K-parameter model and one window of 48 tokens.
class WholeModelTest : public ::testing::Test {
 protected:
  WholeModelTest() : model_(LRQ_TEST_DATA "/stories260k") { start_log(Rank{0}, LogLevel::kOff); }

  /// [47, vocabulary] of the blocks as `recipe` folds `learnables` into them; null: as they are.
  [[nodiscard]] at::Tensor logits(const recipe::Recipe* recipe,
                                  const LearnablesOf& learnables) const {
    const c10::NoGradGuard no_grad;
    const FrozenStage stage(model_, {0, model_.blocks()}, recipe, learnables, at::kFloat,
                            at::kFloat);
    at::Tensor x = model_.family().embed(model_.embedding(), ids_of(1, 48).to(at::kLong));
    for (int i = 0; i < stage.size(); ++i) x = stage.forward(i, x);
    return model_.family().logits(model_.head(), x)[0].narrow(0, 0, 47);
  }

  [[nodiscard]] static double perplexity(const at::Tensor& logits) {
    const at::Tensor next = ids_of(1, 48)[0].narrow(0, 1, 47).to(at::kLong).unsqueeze(1);
    const at::Tensor chosen = logits.to(at::kDouble).log_softmax(-1).gather(1, next);
    return std::exp(-chosen.mean().item<double>());
  }

  ModelSource model_;
};

/// The learnables of a block that has `kinds` at each of its linear inputs, in their order, all of
/// random values.  A scale or a shift can only come first: it goes into the layer before.
NamedTensors random_maps(const models::Family& family, const std::vector<std::string>& kinds,
                         std::uint64_t seed) {
  NamedTensors learnables;
  for (const models::LinearSpec& linear : family.block().linears) {
    std::size_t place = 0;
    for (const std::string& kind : kinds) {
      const transform::Kind* found = transform::find_kind(kind);
      const at::Tensor parameter =
          lrq::testing::random_transform(*found, linear.in, ++seed, at::kFloat).parameter;
      if (found->orthogonal) {
        learnables.try_emplace(models::map_name(linear.input, place++, kind), parameter);
        continue;
      }
      const std::string pair = linear.input == models::Site::kQkvIn   ? "qkv"
                               : linear.input == models::Site::kMlpIn ? "fc1"
                                                                      : "";
      if (pair.empty()) continue;
      learnables.try_emplace(kind == "scale"
                                 ? models::scale_name(pair, models::Parametrization::kAbsolute)
                                 : models::shift_name(pair),
                             parameter);
    }
  }
  return learnables;
}

TEST_F(WholeModelTest, EveryKindAndEveryPairAtOneSiteKeepsThePerplexity) {
  recipe::Recipe recipe;
  recipe.weights.bits = recipe.activations.bits = 16;
  recipe.smoothing.parametrization = recipe::Parametrization::kAbsolute;
  std::vector<std::string> first;
  std::vector<std::string> second = {""};
  for (const transform::Kind* kind : transform::kinds()) {
    first.emplace_back(kind->name);
    if (kind->orthogonal) second.emplace_back(kind->name);
  }
  ASSERT_GE(first.size() * second.size(), 7U * 6U);
  const at::Tensor plain = logits(nullptr, {});
  for (const std::string& one : first) {
    for (const std::string& other : second) {
      std::vector<std::string> kinds = {one};
      if (!other.empty()) kinds.push_back(other);
      const at::Tensor found = logits(&recipe, [&](BlockIndex block, const NamedTensors&) {
        return random_maps(model_.family(), kinds, 100 * static_cast<std::uint64_t>(block.value));
      });
      EXPECT_NEAR(perplexity(found) / perplexity(plain), 1.0, kTolerance) << one << " " << other;
      EXPECT_FALSE(at::equal(found, plain)) << "nothing was done by " << one << " " << other;
    }
  }
}

/// Recipes that differ in bits alone are one here.
TEST_F(WholeModelTest, EveryShippedRecipeKeepsThePerplexity) {
  const ScratchFolder scratch;
  const auto files = io::make_posix_file_system();
  const std::filesystem::path tokens = scratch.path() / "tokens.npy";
  io::write_token_file(*files, tokens, ids_of(2, 24));
  const double expected = perplexity(logits(nullptr, {}));
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(LRQ_RECIPES)) {
    const std::string name = entry.path().stem();
    const recipe::Recipe recipe = shipped_recipe(
        name, {"weights.bits=16", "activations.bits=16", "activations.kv_bits=0", "train.epochs=0",
               "rotation.steps=4", "rotation.block_size=0", "clusters.norms=8", "clusters.heads=2",
               "clusters.mlp=8", "weights.per=channel", "weights.group_size=0"});
    if (!seen.insert(recipe::to_toml(recipe)).second) continue;
    CalibrationRequest request;
    request.run = scratch.path() / name;
    request.texts = {tokens.string()};
    request.recipe = recipe;
    request.samples = 2;
    request.tokens = 24;
    dist::run_as_threads(1, std::chrono::seconds(60), [&](dist::Transport& transport) {
      (void)calibrate(transport, *files, model_, request);
    });
    const io::BlockStateStore states(*files, request.run);
    EXPECT_NEAR(perplexity(logits(&recipe, finished_learnables(states))) / expected, 1.0,
                kTolerance)
        << name;
  }
  EXPECT_GE(seen.size(), 10U);
}

}  // namespace
}  // namespace lrq::pipeline

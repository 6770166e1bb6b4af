// The losses by the specification's vector E.
#include "src/quant/loss.h"

#include <cmath>
#include <limits>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;

// quant::mse_loss is named in full: argument-dependent look-up also finds at::mse_loss.

// [1, T, C] from one row a token.
at::Tensor tokens(const Matrix& rows, at::ScalarType dtype = at::kDouble) {
  return matrix_of(rows, dtype).unsqueeze(0);
}

const Matrix kTarget = {{1, 2, 2}, {0, 3, 4}};
const Matrix kOutput = {{1, 2, 1}, {0, 4, 3}};
const Matrix kSecondTarget = {{1, 1, 2}, {1, 4, 3}};
constexpr double kFloorLoss = 13.8155105580;
constexpr double kTolerance = 1e-9;

TEST(LossTest, GivesTheValuesOfVectorE) {
  const at::Tensor output = tokens(kOutput);
  EXPECT_NEAR(nlc_loss(output, tokens(kTarget)).item<double>(), 0.0446944074, kTolerance);
  EXPECT_NEAR(quant::mse_loss(output, tokens(kTarget)).item<double>(), 0.5, kTolerance);
  EXPECT_NEAR(nlc_loss(output, tokens(kSecondTarget)).item<double>(), 0.0976602341, kTolerance);
  EXPECT_NEAR(quant::mse_loss(output, tokens(kSecondTarget)).item<double>(), 0.5, kTolerance);
  const NlcOptions per_token{.reduction = NlcReduction::kTokenLogThenMean};
  EXPECT_NEAR(nlc_loss(output, tokens(kTarget), per_token).item<double>(), 0.0447019344,
              kTolerance);
}

TEST(LossTest, SumOfAllFourTermsIsThatOfVectorE) {
  double sum = 0;
  for (const Matrix& target : {kTarget, kSecondTarget}) {
    sum += quant::mse_loss(tokens(kOutput), tokens(target)).item<double>();
    sum += nlc_loss(tokens(kOutput), tokens(target)).item<double>();
  }
  EXPECT_NEAR(sum, 1.1423546415, kTolerance);
}

TEST(LossTest, GradientOfTheSumIsThatOfVectorE) {
  const at::Tensor output = leaf(tokens(kOutput, at::kFloat));
  const at::Tensor target = tokens(kTarget, at::kFloat);
  (quant::mse_loss(output, target) + nlc_loss(output, target)).backward();
  expect_vector(output.grad(),
                tokens({{0.01185856, 0.02371712, -0.39262620}, {0, 0.35090125, -0.35675719}}));
}

TEST(NlcTest, FlattenedTakesOneCosineOfEverything) {
  // <q, f> = 7 + 24 = 31, |q|^2 = 6 + 25 = 31, |f|^2 = 9 + 25 = 34.
  const NlcOptions flat{.reduction = NlcReduction::kFlattened};
  EXPECT_NEAR(nlc_loss(tokens(kOutput), tokens(kTarget), flat).item<double>(),
              0.5 * std::log(34.0 / 31.0), kTolerance);
}

TEST(NlcTest, AnEqualOutputCostsNothing) {
  const at::Tensor output = tokens(kOutput);
  EXPECT_NEAR(nlc_loss(output, output).item<double>(), 0, 1e-15);
  EXPECT_EQ(quant::mse_loss(output, output).item<double>(), 0);
}

TEST(NlcTest, AZeroVectorHasCosineZero) {
  // The mean of 0 and of the second token's 0.96.
  const at::Tensor output = leaf(tokens({{0, 0, 0}, {0, 4, 3}}));
  const at::Tensor loss = nlc_loss(output, tokens(kTarget));
  EXPECT_NEAR(loss.item<double>(), -std::log(0.48), kTolerance);
  loss.backward();
  EXPECT_TRUE(output.grad().isfinite().all().item<bool>()) << output.grad();
}

TEST(NlcTest, ATurnedOutputCostsTheFloorAndPassesNoGradient) {
  for (const NlcReduction reduction : {NlcReduction::kTokenMeanThenLog,
                                       NlcReduction::kTokenLogThenMean, NlcReduction::kFlattened}) {
    const at::Tensor output = leaf(-tokens(kTarget));
    const at::Tensor loss = nlc_loss(output, tokens(kTarget), {.reduction = reduction});
    EXPECT_NEAR(loss.item<double>(), kFloorLoss, kTolerance);
    loss.backward();
    EXPECT_TRUE(at::equal(output.grad(), at::zeros_like(output))) << output.grad();
  }
}

TEST(NlcTest, TheAbsoluteFormIsBlindToTheSign) {
  const at::Tensor loss = nlc_loss(-tokens(kTarget), tokens(kTarget), {.absolute = true});
  EXPECT_NEAR(loss.item<double>(), 0, kTolerance);
}

TEST(NlcTest, ANanStaysNan) {
  Matrix rows = kOutput;
  rows[1][2] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(nlc_loss(tokens(rows), tokens(kTarget)).item<double>()));
  EXPECT_TRUE(std::isnan(quant::mse_loss(tokens(rows), tokens(kTarget)).item<double>()));
}

TEST(NlcTest, ScaleOfTheOutputDoesNotMatter) {
  EXPECT_NEAR(nlc_loss(tokens(kOutput) * 7, tokens(kTarget)).item<double>(), 0.0446944074,
              kTolerance);
}

TEST(NlcTest, GradientsEqualFiniteDifferences) {
  for (const NlcReduction reduction : {NlcReduction::kTokenMeanThenLog,
                                       NlcReduction::kTokenLogThenMean, NlcReduction::kFlattened}) {
    for (const bool absolute : {false, true}) {
      const NlcOptions options{.reduction = reduction, .absolute = absolute};
      const at::Tensor target = random({2, 3, 5}, 1, at::kDouble);
      const at::Tensor output = leaf(target + 0.5 * random({2, 3, 5}, 2, at::kDouble));
      nlc_loss(output, target, options).backward();
      at::Tensor moved = output.detach().clone();
      at::Tensor expected = at::empty_like(moved);
      double* values = moved.data_ptr<double>();
      for (std::int64_t i = 0; i < moved.numel(); ++i) {
        const double kept = values[i];
        values[i] = kept + 1e-6;
        const double above = nlc_loss(moved, target, options).item<double>();
        values[i] = kept - 1e-6;
        const double below = nlc_loss(moved, target, options).item<double>();
        values[i] = kept;
        expected.data_ptr<double>()[i] = (above - below) / 2e-6;
      }
      expect_close(output.grad(), expected, 1e-6, 1e-8);
    }
  }
}

// Tokens of mean square 1, 4, 1, 1e6 and 4: norms 1, 2, 1, 1000, 2 with median 2.
const Matrix kUnevenTarget = {{1, -1}, {2, 2}, {-1, 1}, {1000, 1000}, {2, -2}};

TEST(TokenWeightTest, ByDefaultNothingIsWeighed) {
  EXPECT_FALSE(token_weights(tokens(kUnevenTarget), {}).defined());
}

TEST(TokenWeightTest, ByEnergyEveryTokenCountsItsRelativeError) {
  const at::Tensor target = tokens(kUnevenTarget);
  const at::Tensor weights = token_weights(target, {.by_energy = true});
  expect_vector(weights.flatten(), at::tensor({1.0, 0.25, 1.0, 1e-6, 0.25}, at::kDouble));
  // Every token off by a tenth of itself: every relative error is 0.01.
  EXPECT_NEAR(quant::mse_loss(target * 1.1, target, weights).item<double>(), 0.01, kTolerance);
}

TEST(TokenWeightTest, ADroppedTokenLeavesTheMeanOfTheOthers) {
  const at::Tensor target = tokens(kUnevenTarget);
  const TokenWeightOptions drop{.massive = MassiveTokens::kDrop, .massive_above = 10.0};
  const at::Tensor output = target + tokens({{1, 1}, {2, 2}, {1, 1}, {500, 500}, {2, 2}});
  // (1 + 4 + 1 + 4) / 4
  EXPECT_NEAR(quant::mse_loss(output, target, token_weights(target, drop)).item<double>(), 2.5,
              kTolerance);
}

TEST(TokenWeightTest, ADownweightedTokenCountsAsOneAtTheBound) {
  const at::Tensor target = tokens(kUnevenTarget);
  const TokenWeightOptions down{.massive = MassiveTokens::kDownweight, .massive_above = 10.0};
  // The bound is 10 * 2 = 20: (20 / 1000)^2 = 4e-4.
  expect_vector(token_weights(target, down).flatten(),
                at::tensor({1.0, 1.0, 1.0, 4e-4, 1.0}, at::kDouble));
  const TokenWeightOptions both{
      .by_energy = true, .massive = MassiveTokens::kDownweight, .massive_above = 10.0};
  expect_vector(token_weights(target, both).flatten(),
                at::tensor({1.0, 0.25, 1.0, 4e-10, 0.25}, at::kDouble));
}

TEST(TokenWeightTest, WeighsTheGradientToo) {
  const at::Tensor target = tokens(kUnevenTarget);
  const at::Tensor output = leaf(target + 0.5);
  const at::Tensor weights = token_weights(target, {.by_energy = true});
  quant::mse_loss(output, target, weights).backward();
  // d/dq of mean over 10 entries of w (q - f)^2 = w * 2 * 0.5 / 10.
  expect_vector(output.grad(), (weights * 0.1).expand({1, 5, 2}));
}

TEST(LossTest, AHalfPrecisionOutputIsJudgedInFloat32) {
  const at::Tensor output = leaf(tokens(kOutput, at::kBFloat16));
  const at::Tensor target = tokens(kTarget, at::kBFloat16);
  const at::Tensor loss = nlc_loss(output, target) + quant::mse_loss(output, target);
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_NEAR(loss.item<double>(), 0.5446944074, 1e-6);
  loss.backward();
  EXPECT_EQ(output.grad().scalar_type(), at::kBFloat16);
}

TEST(LossTest, RunsOnTheMetaDeviceInBothDirections) {
  const at::TensorOptions meta = at::TensorOptions().device(at::kMeta);
  const at::Tensor output = at::empty({1, 3, 8}, meta).set_requires_grad(true);
  const at::Tensor target = at::empty({1, 3, 8}, meta);
  (nlc_loss(output, target) + quant::mse_loss(output, target)).backward();
  EXPECT_EQ(output.grad().sizes(), output.sizes());
}

TEST(LossTest, OtherShapesAreRefused) {
  EXPECT_THROW((void)nlc_loss(tokens(kOutput), tokens({{1, 2, 2}})), BugError);
  EXPECT_THROW((void)quant::mse_loss(matrix_of(kOutput), matrix_of(kTarget)), BugError);
}

}  // namespace
}  // namespace lrq::quant

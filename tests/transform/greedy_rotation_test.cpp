// The greedy search: vectors 9.2 to 9.4, then what holds for any sample.
#include "src/transform/greedy_rotation.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "src/base/draw_key.h"
#include "src/base/error.h"
#include "src/transform/zigzag.h"
#include "tests/quant/tensors.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

const Matrix kInput = {{1, 0, 9, 2, 0.5, -1, 3, 0}, {0, -2, 8, 1, 1, 1, -4, 0.5}};
const Matrix kBase4 = {{0.5, 0.5, 0.5, 0.5},
                       {0, 0.40824829, -0.81649658, 0.40824829},
                       {-0.86602540, 0.28867513, 0.28867513, 0.28867513},
                       {0, -0.70710678, 0, 0.70710678}};

void expect_peaks(const GreedyTrace& trace, const Values& peaks) {
  ASSERT_EQ(trace.peaks.size(), peaks.size());
  for (std::size_t i = 0; i < peaks.size(); ++i) EXPECT_NEAR(trace.peaks[i], peaks[i], 1e-6);
}

TEST(GreedyRotationTest, BaseSpreadsOneCoordinateOverAll) {  // vectors 9.2
  expect_close(base_rotation(2), matrix64({{0.70710678, 0.70710678}, {-0.70710678, 0.70710678}}),
               1e-6, 1e-6);
  expect_close(base_rotation(4), matrix64(kBase4), 1e-6, 1e-6);
  const at::Tensor base = base_rotation(8);
  expect_close(base[0], at::full({8}, 0.35355339, at::kDouble), 1e-6, 1e-6);
  expect_close(base.select(1, 0),
               vector_of({0.35355339, 0, 0, 0, 0, 0, -0.93541435, 0}, at::kDouble), 1e-6, 1e-6);
  for (const std::int64_t n : {1, 3, 12, 128}) {
    EXPECT_LT(departure_from_orthogonal(base_rotation(n)), 1e-12) << n;
  }
}

TEST(GreedyRotationTest, RandomPartMixesAllColumnsButTheFirst) {  // vector 9.2
  // The factorisation leaves the signs of Q's columns open.
  const at::Tensor q = matrix64({{0, 1, 0}, {0, 0, -1}, {1, 0, 0}});
  const Draws draws = {
      .normal = [&](at::IntArrayRef) { return q; }, .uniform = {}, .permutation = {}};
  const at::Tensor found = random_rotation(4, draws);
  expect_close(found.abs(),
               matrix64({{0.5, 0.5, 0.5, 0.5},
                         {0, 0.40824829, 0.40824829, 0.81649658},
                         {0.86602540, 0.28867513, 0.28867513, 0.28867513},
                         {0, 0.70710678, 0.70710678, 0}}),
               1e-6, 1e-6);
  EXPECT_NEAR(found[2][0].item<double>(), -0.86602540, 1e-6);
  const at::Tensor any = random_rotation(12, draws_from(1));
  EXPECT_LT(departure_from_orthogonal(any), 1e-12);
  EXPECT_TRUE(at::equal(any.select(1, 0), base_rotation(12).select(1, 0)));
}

TEST(GreedyRotationTest, TurnsTheOutliersColumn) {  // vector 9.3
  const at::Tensor x = matrix64(kInput);
  const GreedyTrace trace =
      greedy_steps(x.view({-1, 4}), base_rotation(4), 3, OutlierIndex::kColumn);
  EXPECT_EQ(trace.outliers, (std::vector<std::int64_t>{2, 3, 0, 1}));
  expect_peaks(trace, {13, 9.06891410, 12.68007318, 9.13232363});
  EXPECT_EQ(trace.kept, 1);
  expect_close(trace.rotation,
               matrix64({{0.28867513, 0.28867513, -0.86602540, 0.28867513},
                         {-0.81649658, 0.40824829, 0, 0.40824829},
                         {0.5, 0.5, 0.5, 0.5},
                         {0, -0.70710678, 0, 0.70710678}}),
               1e-6, 1e-6);
  const at::Tensor turned = rotate(trace.rotation, x);
  expect_close(turned,
               matrix64({{4.78867513, 3.37446157, 3.63397460, 6.20288870, 2.46083415, 1.23608928,
                          1.06698730, 1.23608928},
                         {5.63299316, 2.47639664, 4, 3.89061020, -2.52782145, -1.65662997,
                          -2.86602540, -0.94952318}}),
               1e-6, 1e-6);
  EXPECT_NEAR(turned.norm().item<double>(), 13.54621718, 1e-6);
  EXPECT_TRUE(at::equal(x, matrix64(kInput)));  // the sample is not touched
}

TEST(GreedyRotationTest, RowModeIsThePublishedCodes) {  // vector 9.3
  const at::Tensor rows = matrix64(kInput).view({-1, 4});
  const GreedyTrace trace = greedy_steps(rows, base_rotation(4), 3, OutlierIndex::kRow);
  EXPECT_EQ(trace.outliers, (std::vector<std::int64_t>{0, 0, 2, 0}));
  expect_peaks(trace, {13, 11.80651841, 10.13446006, 11.30563813});
  EXPECT_EQ(trace.kept, 2);
  expect_close(trace.rotation,
               matrix64({{-0.18301270, 0.24490832, -0.01391072, 0.95201510},
                         {0.70710678, -0.35771073, -0.56903559, 0.21963954},
                         {-0.68301270, -0.43595238, -0.58538163, -0.02770409},
                         {0, -0.78867513, 0.57735027, 0.21132487}}),
               1e-6, 1e-6);
}

TEST(GreedyRotationTest, RotatePermuteRotateKeepsTheOutput) {  // vector 9.4
  const at::Tensor x = matrix64(kInput);
  const at::Tensor base = base_rotation(4);
  const auto search = [&](const at::Tensor& at) {
    return greedy_steps(at.view({-1, 4}), base, 3, OutlierIndex::kColumn);
  };
  Chain chain = {{find_kind("rotation"), search(x).rotation}};
  const at::Tensor pi = zigzag_permutation(transform::apply(chain, x).abs().amax(0), 2);
  EXPECT_TRUE(at::equal(pi, at::tensor({3, 1, 6, 7, 0, 2, 4, 5}, at::kLong))) << pi;
  chain.push_back({find_kind("permutation"), pi});
  const GreedyTrace second = search(transform::apply(chain, x));
  expect_peaks(second, {9.06891410, 6.84033127, 9.52998554, 7.07243163});
  EXPECT_EQ(second.outliers[0], 0);
  expect_close(second.rotation, matrix64(kBase4), 1e-6, 1e-6);
  chain.push_back({find_kind("rotation"), second.rotation});
  const at::Tensor weight = matrix64({{1, -1, 2, 0, 1, 0, -2, 3}, {0, 1, 0, 1, -1, 2, 1, 0}});
  expect_close(transform::apply(chain, x),
               matrix64({{2.17740624, 3.91302811, 0.65422071, 5.66112233, 0.26319268, 3.71423600,
                          0.13759136, 5.46233022},
                         {4.42735591, 2.80035381, -0.90401456, 1.45752524, 5.00565417, 4.89118483,
                          -1.17920894, 2.54835626}}),
               1e-6, 1e-6);
  expect_close(fold(chain, weight),
               matrix64({{2.05623883, -0.73604632, -0.81732722, 1.25798841, 1.66861126, 2.90492159,
                          0.73785426, -1.10104368},
                         {-0.62533517, 0.10322712, 1.19603204, 1.55678615, 0.82295257, -1.54542809,
                          -0.81864858, -0.09186906}}),
               1e-6, 1e-6);
  expect_close(transform::apply(chain, x).matmul(fold(chain, weight).t()),
               matrix64({{13.5, 2.5}, {28.5, -4}}), 1e-12, 1e-12);
}

// Tokens with one channel thirty times as large as the others.
at::Tensor sample_with_outliers(std::int64_t tokens, std::int64_t channels) {
  at::Tensor x = random({tokens, channels}, 3);
  x.select(1, channels / 3) *= 30;
  return x;
}

TEST(GreedyRotationTest, LowersThePeakAndStoresAnOrthogonalMatrix) {
  for (const std::int64_t block : {12, 32, 128}) {  // not only powers of two
    const at::Tensor x = sample_with_outliers(40, 3 * block);
    for (const Blocks blocks : {Blocks::kShared, Blocks::kSeparate}) {
      const GreedyOptions options = {.block = block, .steps = 24, .blocks = blocks};
      const at::Tensor found = greedy_rotation(x, options, draws_from(7));
      EXPECT_EQ(found.scalar_type(), at::kFloat);
      EXPECT_EQ(found.dim(), blocks == Blocks::kShared ? 2 : 3);
      EXPECT_EQ(find_kind("rotation")->problem(found, 3 * block), "");
      const at::Tensor turned = rotate(found, x);
      const auto peak = [](const at::Tensor& t) { return (t.max() - t.min()).item<double>(); };
      EXPECT_LT(peak(turned), 0.8 * peak(x)) << block;
    }
  }
}

TEST(GreedyRotationTest, NoStepIsKeptWhereNoneHelps) {
  const at::Tensor even = at::ones({6, 8});  // a turn can only make it uneven
  const GreedyTrace trace = greedy_steps(even, base_rotation(8), 5, OutlierIndex::kColumn);
  EXPECT_EQ(trace.kept, 0);
  EXPECT_TRUE(at::equal(trace.rotation, at::eye(8, at::kDouble)));
  const GreedyOptions none = {.block = 4, .steps = 0};
  EXPECT_TRUE(at::equal(greedy_rotation(random({3, 8}, 1), none, draws_from(1)), at::eye(4)));
}

TEST(GreedyRotationTest, TheKeptStepsEndAtTheSmallestPeak) {
  const at::Tensor x = sample_with_outliers(30, 16).to(at::kDouble);
  const GreedyTrace trace =
      greedy_steps(x, random_rotation(16, draws_from(1)), 40, OutlierIndex::kColumn);
  const auto smallest = std::min_element(trace.peaks.begin(), trace.peaks.end());
  EXPECT_EQ(trace.kept, smallest - trace.peaks.begin());
  const at::Tensor turned = rotate(trace.rotation, x);
  EXPECT_NEAR((turned.max() - turned.min()).item<double>(), *smallest, 1e-10);
}

TEST(GreedyRotationTest, OneSeparateBlockIsTheSharedOne) {
  const at::Tensor x = sample_with_outliers(20, 16);
  const at::Tensor shared = greedy_rotation(x, {.block = 16, .steps = 9}, draws_from(5));
  const at::Tensor separate =
      greedy_rotation(x, {.block = 16, .steps = 9, .blocks = Blocks::kSeparate}, draws_from(5));
  EXPECT_TRUE(at::equal(separate, shared.unsqueeze(0)));
}

TEST(GreedyRotationTest, TheKeyAloneDecides) {
  const at::Tensor x = sample_with_outliers(20, 32);
  const auto of_block = [&](std::uint64_t block) {
    const GreedyOptions options = {.block = 16, .steps = 12};
    return greedy_rotation(x, options, draws_from(draw_key(2, {block, 0, 0, 0})));
  };
  EXPECT_TRUE(at::equal(of_block(3), of_block(3)));
  EXPECT_FALSE(at::equal(of_block(3), of_block(4)));
}

TEST(GreedyRotationTest, RefusesABlockThatDoesNotDivide) {
  EXPECT_THROW((void)greedy_rotation(at::ones({2, 10}), {.block = 4}, draws_from(1)), BugError);
}

}  // namespace
}  // namespace lrq::transform

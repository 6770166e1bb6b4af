#include "src/report/wave_replay.h"

#include <gtest/gtest.h>

namespace lrq::report {
namespace {

using pipeline::Bar;
using pipeline::Op;

/// Two blocks that learn for two epochs of two steps: block 0 takes 1 s a step, then 2 s, and
/// block 1 takes 2 s in both.
class WaveReplayTest : public testing::Test {
 protected:
  WaveReplayTest() {
    setting_.recipe.train.epochs = 2;
    setting_.recipe.train.wave = 2;
    setting_.blocks = {0, 2};
    setting_.micro_batches = 2;
    setting_.ranks = 2;
    metrics_.epochs[0][1] = {.seconds = 2.0, .steps = 2};
    metrics_.epochs[0][2] = {.seconds = 4.0, .steps = 2};
    metrics_.epochs[1][1] = {.seconds = 4.0, .steps = 2};
    metrics_.epochs[1][2] = {.seconds = 4.0, .steps = 2};
    metrics_.waves[0] = {.ranks = 2,
                         .steps = 4,
                         .seconds = 10.0,
                         .waited = {4.0, 2.0},  // works 6 and 8 s
                         .cuts = {0.0, 0.0}};
  }

  [[nodiscard]] std::vector<Bar> bars_of(int rank) const {
    const auto replay = replay_wave(setting_, 0, metrics_);
    std::vector<Bar> mine;
    for (const Bar& bar : replay.value().played.bars) {
      if (bar.rank == rank) mine.push_back(bar);
    }
    return mine;
  }

  WaveSetting setting_;
  Metrics metrics_;
};

TEST_F(WaveReplayTest, PlaysTheStepsOfEveryEpochByTheirOwnTime) {
  EXPECT_EQ(bars_of(0), (std::vector<Bar>{{0, {Op::kTrain, 0}, 0.0, 1.0},
                                          {0, {Op::kTrain, 1}, 1.0, 2.0},
                                          {0, {Op::kTrain, 2}, 2.0, 4.0},
                                          {0, {Op::kTrain, 3}, 4.0, 6.0}}));
  // Rank 1 begins when step 0 has come, and is behind from then on.
  EXPECT_EQ(bars_of(1), (std::vector<Bar>{{1, {Op::kTrain, 0}, 1.0, 3.0},
                                          {1, {Op::kTrain, 1}, 3.0, 5.0},
                                          {1, {Op::kTrain, 2}, 5.0, 7.0},
                                          {1, {Op::kTrain, 3}, 7.0, 9.0}}));
}

TEST_F(WaveReplayTest, TellsWaitingBesideTheMeasuredOne) {
  const auto replay = replay_wave(setting_, 0, metrics_);
  ASSERT_TRUE(replay);
  EXPECT_DOUBLE_EQ(replay->played.seconds, 9.0);
  EXPECT_DOUBLE_EQ(replay->simulated_waiting(0), 3.0 / 9.0);
  EXPECT_DOUBLE_EQ(replay->simulated_waiting(1), 1.0 / 9.0);
  EXPECT_DOUBLE_EQ(replay->measured_waiting(0).value(), 0.4);
  EXPECT_DOUBLE_EQ(replay->measured_waiting(1).value(), 0.2);
}

TEST_F(WaveReplayTest, SpreadsWhatAStageDidBesidesOverItsSteps) {
  metrics_.waves[0].waited = {2.0, 2.0};  // rank 0 works 8 s, 6 of them on blocks
  EXPECT_EQ(bars_of(0), (std::vector<Bar>{{0, {Op::kTrain, 0}, 0.0, 1.5},
                                          {0, {Op::kTrain, 1}, 1.5, 3.0},
                                          {0, {Op::kTrain, 2}, 3.0, 5.5},
                                          {0, {Op::kTrain, 3}, 5.5, 8.0}}));
}

TEST_F(WaveReplayTest, PlaysCuts) {
  metrics_.waves[0].cut_every = 2;
  metrics_.waves[0].waited = {3.5, 1.0};
  metrics_.waves[0].cuts = {0.5, 1.0};
  const auto mine = bars_of(0);
  ASSERT_EQ(mine.size(), 5U);
  EXPECT_EQ(mine[2], (Bar{0, {Op::kCut, 1}, 2.0, 2.5}));
  EXPECT_EQ(mine[3], (Bar{0, {Op::kTrain, 2}, 2.5, 4.5}));
  EXPECT_EQ(bars_of(1)[2], (Bar{1, {Op::kCut, 1}, 5.0, 6.0}));
}

TEST_F(WaveReplayTest, APartOfAWaveHasItsStepsAlone) {
  metrics_.waves[0].first_step = 2;
  metrics_.waves[0].seconds = 6.0;
  metrics_.waves[0].waited = {2.0, 2.0};
  EXPECT_EQ(bars_of(1),
            (std::vector<Bar>{{1, {Op::kTrain, 2}, 2.0, 4.0}, {1, {Op::kTrain, 3}, 4.0, 6.0}}));
}

TEST_F(WaveReplayTest, AWaveThatStillLearnsIsPlayedWithWhatIsKnown) {
  metrics_.waves.clear();
  metrics_.epochs[0].erase(2);
  const auto replay = replay_wave(setting_, 0, metrics_);
  ASSERT_TRUE(replay);
  EXPECT_FALSE(replay->measured_waiting(0));
  EXPECT_DOUBLE_EQ(replay->played.busy[0], 4.0);  // 1 s a step in the other epoch too
  EXPECT_DOUBLE_EQ(replay->played.seconds, 9.0);
}

TEST_F(WaveReplayTest, ReplicasWorkSideBySideAndRanksBeyondWait) {
  metrics_.waves[0].ranks = 5;
  metrics_.waves[0].replicas = 2;
  const auto replay = replay_wave(setting_, 0, metrics_);
  ASSERT_TRUE(replay);
  EXPECT_DOUBLE_EQ(replay->played.seconds, 9.0);
  for (const int rank : {0, 1}) EXPECT_DOUBLE_EQ(replay->simulated_waiting(rank), 3.0 / 9.0);
  for (const int rank : {2, 3}) EXPECT_DOUBLE_EQ(replay->simulated_waiting(rank), 1.0 / 9.0);
  EXPECT_DOUBLE_EQ(replay->simulated_waiting(4), 1.0);
  EXPECT_DOUBLE_EQ(replay->measured_waiting(2).value(), 0.2);
  for (const int rank : {1, 3, 4}) EXPECT_FALSE(replay->measured_waiting(rank)) << rank;
}

TEST_F(WaveReplayTest, PlaysNothingWithoutAMeasuredStepOrWithARecordOfAnotherRun) {
  metrics_.waves[0].steps = 5;
  EXPECT_FALSE(replay_wave(setting_, 0, metrics_));
  metrics_.waves[0].steps = 4;
  metrics_.waves[0].ranks = 3;
  metrics_.waves[0].waited = metrics_.waves[0].cuts = {0.0, 0.0, 0.0};
  EXPECT_FALSE(replay_wave(setting_, 0, metrics_)) << "three stages of two blocks";
  metrics_ = {};
  EXPECT_FALSE(replay_wave(setting_, 0, metrics_));
}

}  // namespace
}  // namespace lrq::report

#include "src/pipeline/schedule.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/schedules/schedules.h"

namespace lrq::pipeline {
namespace {

TEST(ActionTextTest, PrintsAndParsesBack) {
  const std::vector<Action> actions = {{Op::kReceive, 0}, {Op::kTrain, 0}, {Op::kSend, 12}};
  EXPECT_EQ(to_text(actions), "R0 T0 S12");
  EXPECT_EQ(parse_actions("R0 T0 S12"), actions);
  EXPECT_THROW((void)parse_actions("R0 X1"), UsageError);
  EXPECT_THROW((void)parse_actions("R-1"), UsageError);
}

TEST(WaveScheduleTest, ReadsAsThisTextForTwoStages) {
  const Plan plan =
      plan_waves({.ranks = 2, .stages = 2, .steps = 6, .report_every = 3, .cut_every = 3});
  EXPECT_EQ(to_text(plan.ranks[0]), "T0 S0 T1 S1 T2 S2 C2 T3 S3 T4 S4 G2 T5 S5 G5");
  EXPECT_EQ(to_text(plan.ranks[1]), "R0 T0 R1 T1 R2 T2 C2 P2 R3 T3 R4 T4 R5 T5 P5");
}

TEST(WaveScheduleTest, ReplicasFeedReplicasAndTheFirstSpeaksForItsStage) {
  const Plan plan = plan_waves(
      {.ranks = 5, .stages = 2, .replicas = 2, .steps = 2, .report_every = 2, .cut_every = 1});
  EXPECT_EQ(plan.previous, (std::vector<int>{-1, -1, 0, 1, -1}));
  EXPECT_EQ(plan.next, (std::vector<int>{2, 3, -1, -1, -1}));
  EXPECT_EQ(to_text(plan.ranks[0]), "T0 S0 C0 T1 S1 G0 G1");
  EXPECT_EQ(to_text(plan.ranks[1]), "T0 S0 T1 S1");
  EXPECT_EQ(to_text(plan.ranks[2]), "R0 T0 C0 P0 R1 T1 P1");
  EXPECT_EQ(to_text(plan.ranks[3]), "R0 T0 R1 T1");
  EXPECT_EQ(to_text(plan.ranks[4]), "");
  EXPECT_DOUBLE_EQ(simulate(plan).seconds, 3.0);
}

TEST(WaveScheduleTest, StartsBehindACut) {
  const Plan plan = plan_waves({.ranks = 1, .stages = 1, .first_step = 4, .steps = 6});
  EXPECT_EQ(to_text(plan.ranks[0]), "T4 T5");
}

TEST(WaveScheduleTest, TakesStepsPlusOnePerFurtherStage) {
  for (int stages = 1; stages <= 8; ++stages) {
    const LearnShape shape{.ranks = 8, .stages = stages, .steps = 16, .report_every = 8};
    EXPECT_DOUBLE_EQ(simulate(plan_waves(shape)).seconds, 16 + stages - 1);
  }
}

TEST(WaveScheduleTest, ReportsDoNotHoldUpRankZero) {
  const LearnShape shape{.ranks = 4, .stages = 4, .steps = 64, .report_every = 4, .cut_every = 4};
  const Simulation with = simulate(plan_waves(shape));
  EXPECT_DOUBLE_EQ(with.seconds, 64 + 3);
}

TEST(WaveScheduleTest, BufferedSendsHideATransferAsLongAsAStep) {
  const LearnShape shape{.ranks = 2, .stages = 2, .steps = 100};
  EXPECT_DOUBLE_EQ(simulate(plan_waves(shape), {.transfer = 1.0}).seconds, 100 + 1 + 1);
}

TEST(WaveScheduleTest, AShorterPlanWithACutAtItsEndBeginsAsTheLongerOne) {
  for (const ScheduleEntry& entry : schedules()) {
    for (std::int64_t steps = 5; steps < 12; ++steps) {
      const LearnShape whole{
          .ranks = 3, .stages = 3, .first_step = 2, .steps = 12, .report_every = 3, .cut_every = 4};
      LearnShape stopped = whole;
      stopped.steps = steps;
      stopped.cut_at_end = true;
      const Plan longer = plan_learning(entry.name, whole);
      const Plan shorter = plan_learning(entry.name, stopped);
      EXPECT_NO_THROW((void)simulate(shorter));
      for (std::size_t rank = 0; rank < 3; ++rank) {
        const std::string all = to_text(longer.ranks[rank]);
        const std::string cut = concat(" C", steps - 1);
        const std::string mine = to_text(shorter.ranks[rank]);
        const std::size_t begin = mine.find(cut);
        ASSERT_NE(begin, std::string::npos) << mine;
        EXPECT_EQ(all.substr(0, begin), mine.substr(0, begin));
      }
    }
  }
}

TEST(IndependentScheduleTest, PassesWordBeforeTheWork) {
  const Plan plan = plan_independent({.ranks = 3, .stages = 3, .steps = 2, .report_every = 2});
  EXPECT_EQ(to_text(plan.ranks[0]), "S0 T0 S1 T1 G1");
  EXPECT_EQ(to_text(plan.ranks[1]), "R0 S0 T0 R1 S1 T1 P1");
  EXPECT_EQ(to_text(plan.ranks[2]), "R0 T0 R1 T1 P1");
  EXPECT_DOUBLE_EQ(simulate(plan).seconds, 2.0);
}

TEST(ForwardPlanTest, ReplicasTakeContiguousPartsIfTheyDoNotShareABatch) {
  const Plan plan = plan_forward({.ranks = 5, .stages = 2, .replicas = 2, .samples = 3});
  EXPECT_EQ(to_text(plan.ranks[0]), "F0 S0 F1 S1");
  EXPECT_EQ(to_text(plan.ranks[1]), "F2 S2");
  EXPECT_EQ(to_text(plan.ranks[2]), "R0 F0 R1 F1");
  EXPECT_EQ(to_text(plan.ranks[3]), "R2 F2");
  EXPECT_EQ(to_text(plan.ranks[4]), "");
  EXPECT_DOUBLE_EQ(simulate(plan).seconds, 3.0);
}

TEST(ForwardPlanTest, ReplicasThatShareABatchTakeTheSamplesTheyHaveLearnedFrom) {
  const ForwardShape shape{
      .ranks = 2, .stages = 1, .replicas = 2, .samples = 10, .batch = 4};  // two batches and a rest
  EXPECT_EQ(samples_of_replica(shape, 0), (std::vector<std::int64_t>{0, 1, 4, 5}));
  EXPECT_EQ(samples_of_replica(shape, 1), (std::vector<std::int64_t>{2, 3, 6, 7, 8, 9}));
  EXPECT_EQ(to_text(plan_forward(shape).ranks[0]), "F0 F1 F4 F5");
}

TEST(ForwardPlanTest, ABlockDoesATurnOfSamplesBeforeTheNext) {
  const Plan plan = plan_forward({.ranks = 2, .stages = 2, .samples = 5, .turn = 2});
  EXPECT_EQ(to_text(plan.ranks[0]), "F0 F1 S0 S1 F2 F3 S2 S3 F4 S4");
  EXPECT_EQ(to_text(plan.ranks[1]), "R0 R1 F0 F1 R2 R3 F2 F3 R4 F4");
  EXPECT_DOUBLE_EQ(simulate(plan).seconds, 5.0 + 2.0);  // the second stage is a turn behind
}

TEST(WaveScheduleTest, TurnsEndWhereAReportOrACutFollows) {
  const LearnShape shape{
      .ranks = 2, .stages = 2, .steps = 8, .report_every = 4, .cut_every = 3, .turn = 3};
  const Plan plan = plan_waves(shape);
  EXPECT_EQ(to_text(plan.ranks[0]).substr(0, 46), "T0 T1 T2 S0 S1 S2 C2 T3 S3 T4 T5 S4 S5 C5 T6 T");
  EXPECT_EQ(to_text(plan.ranks[1]),
            "R0 R1 R2 T0 T1 T2 C2 P2 R3 T3 P3 R4 R5 T4 T5 C5 P5 R6 R7 T6 T7 P7");
  EXPECT_NO_THROW((void)simulate(plan));
}

TEST(ScheduleRegistryTest, EveryEntryPlansWhatCanRun) {
  for (const ScheduleEntry& entry : schedules()) {
    for (int stages = 1; stages <= 5; ++stages) {
      const LearnShape shape{
          .ranks = 6, .stages = stages, .steps = 7, .report_every = 3, .cut_every = 2};
      EXPECT_NO_THROW((void)simulate(plan_learning(entry.name, shape))) << entry.name << stages;
    }
  }
  EXPECT_THROW((void)plan_learning("gpipe", {}), UsageError);
}

Plan two_ranks(const char* zero, const char* one) {
  return {.ranks = {parse_actions(zero), parse_actions(one)}, .previous = {-1, 0}, .next = {1, -1}};
}

TEST(PlanCheckTest, FindsEveryKindOfFault) {
  EXPECT_NO_THROW((void)simulate(two_ranks("T0 S0", "R0 T0")));
  EXPECT_THROW((void)simulate(two_ranks("T0", "R0 T0")), BugError) << "nothing was sent";
  EXPECT_THROW((void)simulate(two_ranks("T0 S0", "T0")), BugError) << "nobody takes it";
  EXPECT_THROW((void)simulate(two_ranks("T0 S0 T1 S1", "R1 T0 R0 T1")), BugError) << "order";
  EXPECT_THROW((void)simulate(two_ranks("T0 T0", "")), BugError) << "a step done twice";
  EXPECT_THROW((void)simulate(two_ranks("T0 T2", "")), BugError) << "a step left out";
  EXPECT_THROW((void)simulate(two_ranks("S0 T0", "R0 T0")), BugError) << "sent before it is made";
  EXPECT_THROW((void)simulate(two_ranks("T0 S0", "T0 R0")), BugError) << "done without its input";
  EXPECT_THROW((void)simulate(two_ranks("T0 C1", "")), BugError) << "a cut too early";
  EXPECT_THROW((void)simulate(two_ranks("G0", "P0 P1")), BugError) << "a report left over";
  EXPECT_THROW((void)simulate(two_ranks("R0 T0", "")), BugError) << "no neighbour";
  Plan word = two_ranks("S0 T0", "R0 T0");
  word.word_only = true;
  EXPECT_NO_THROW((void)simulate(word));
  word.ranks[1] = parse_actions("T0 R0");
  EXPECT_THROW((void)simulate(word), BugError) << "done before word of it has come";
}

TEST(PlanCheckTest, NamesWhoWaitsForWhom) {
  try {
    (void)simulate(two_ranks("T0 S0 T1 S1 T2 S2", "R0 T0 R1 T1 R2 T2 R3"));
    FAIL();
  } catch (const BugError& error) {
    EXPECT_NE(std::string(error.what()).find("rank 1 at R3"), std::string::npos) << error.what();
  }
}

TEST(SimulationTest, KeepsTheWorkOfEveryRankInTheOrderOfTime) {
  // Rank 1 takes 3 s a step and waits 2 s for its first input; a cut takes 0.5 s on rank 0, 1 s
  // on 1.
  const Plan plan = two_ranks("T0 S0 C0 T1 S1", "R0 T0 C0 R1 T1");
  const Costs costs{.train = {2.0, 3.0}, .cuts = {0.5, 1.0}};
  const Simulation played = simulate(plan, costs, Bars::kYes);
  std::vector<std::vector<Bar>> bars(2);
  for (const Bar& bar : played.bars) bars[static_cast<std::size_t>(bar.rank)].push_back(bar);
  EXPECT_EQ(bars[0], (std::vector<Bar>{{0, {Op::kTrain, 0}, 0.0, 2.0},
                                       {0, {Op::kCut, 0}, 2.0, 2.5},
                                       {0, {Op::kTrain, 1}, 2.5, 4.5}}));
  EXPECT_EQ(bars[1], (std::vector<Bar>{{1, {Op::kTrain, 0}, 2.0, 5.0},
                                       {1, {Op::kCut, 0}, 5.0, 6.0},
                                       {1, {Op::kTrain, 1}, 6.0, 9.0}}));
  EXPECT_EQ(played.busy, (std::vector<double>{4.5, 7.0}));
  EXPECT_TRUE(simulate(plan, costs).bars.empty());
}

TEST(SimulationTest, StepsMayDifferByRankAndStep) {
  const Costs costs{.work = [](std::size_t rank, std::int64_t step) {
    return rank == 1 ? 1.0 : 1.0 + 2.0 * double(step);
  }};
  // Rank 0: 0-1, 1-4; rank 1: 1-2, then 4-5.
  EXPECT_DOUBLE_EQ(simulate(two_ranks("T0 S0 T1 S1", "R0 T0 R1 T1"), costs).seconds, 5.0);
}

TEST(PartitionTest, BalancesEqualBlocks) {
  using Ranges = std::vector<BlockRange>;
  EXPECT_EQ(partition({1, 1, 1, 1}, 2), (Ranges{{0, 2}, {2, 4}}));
  EXPECT_EQ(partition({1, 1, 1, 1, 1}, 2), (Ranges{{0, 3}, {3, 5}}));
  EXPECT_EQ(partition({1, 1, 1}, 3), (Ranges{{0, 1}, {1, 2}, {2, 3}}));
  EXPECT_EQ(partition({1, 1, 1, 9}, 2), (Ranges{{0, 3}, {3, 4}}));
}

TEST(PartitionTest, CountsTheHeadOnTheLastStage) {
  // 30 blocks and a head as dear as 8 of them: 19 on each side.
  const auto ranges = partition(std::vector<double>(30, 1.0), 2, 0.0, 8.0);
  EXPECT_EQ(ranges[0], (BlockRange{0, 19}));
}

TEST(PartitionTest, GivesEveryStageABlockEvenIfTheHeadIsDearest) {
  const auto ranges = partition({1, 1, 1}, 3, 0.0, 100.0);
  for (const BlockRange& range : ranges) EXPECT_EQ(range.size(), 1);
}

TEST(WavesTest, LastMayBeShorterAndNoWaveIsWiderThanTheModel) {
  EXPECT_EQ(waves_of(30, 8).size(), 4U);
  EXPECT_EQ(waves_of(30, 8).back(), (BlockRange{24, 30}));
  EXPECT_EQ(waves_of(5, 100), (std::vector<BlockRange>{{0, 5}}));
  EXPECT_EQ(waves_of(3, 1).size(), 3U);
}

}  // namespace
}  // namespace lrq::pipeline

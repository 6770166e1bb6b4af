#include "src/pipeline/run_estimate.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/plan_choice.h"
#include "src/pipeline/schedules/schedules.h"
#include "tests/pipeline/planning.h"

namespace lrq::pipeline {
namespace {

/// 7B's block, four or more of it, 2 epochs, waves of 4.
struct Job {
  BlockWork work;
  ModelFigures model = model_figures(*family_of_config("llama-2-7b"));
  Machine machine = instant_machine();
  RunShape shape{.ranks = 2, .samples = 8};

  explicit Job(int blocks = 4) : work(work_of_7b(recipe_with_bits(4, 4))) {
    model.blocks = blocks;
    work.recipe.train.epochs = 2;
    work.recipe.train.wave = 4;
  }
  [[nodiscard]] RunEstimate estimate() const { return estimate_run(work, model, machine, shape); }
};

double seconds_of(const RunEstimate& estimate, const std::string& name) {
  for (const PhaseEstimate& phase : estimate.phases) {
    if (phase.name == name) return phase.seconds;
  }
  return -1.0;
}

TEST(RunEstimateTest, AWaveTakesItsStepsAndOneMoreForEachFurtherStage) {
  Job job;
  job.machine.learning_step_s = 1.0;
  const RunEstimate estimate = job.estimate();
  EXPECT_EQ(estimate.steps, 16);
  EXPECT_DOUBLE_EQ(estimate.seconds(), (16 + 1) * 2.0);  // two blocks a stage
  EXPECT_DOUBLE_EQ(estimate.utilisation(), 16.0 / 17.0);
  EXPECT_DOUBLE_EQ(estimate.computing_share(), 16.0 / 17.0);
}

TEST(RunEstimateTest, SamplesGoThroughTheModelOnceAndThroughAWaveTwice) {
  Job job;
  job.machine.forward_s = 1.0;
  const RunEstimate estimate = job.estimate();
  EXPECT_DOUBLE_EQ(seconds_of(estimate, "chain"), (8 + 1) * 2.0);
  EXPECT_DOUBLE_EQ(seconds_of(estimate, "freeze"), 2 * (8 + 1) * 2.0);
  EXPECT_NEAR(seconds_of(estimate, "learn"), 0.0, 1e-9);
}

TEST(RunEstimateTest, TheLastWaveIsAsNarrowAsWhatIsLeft) {
  Job job(6);
  job.machine.learning_step_s = 1.0;
  const RunEstimate estimate = job.estimate();
  EXPECT_EQ(estimate.waves, 2);
  EXPECT_EQ(estimate.steps, 32);
  EXPECT_DOUBLE_EQ(estimate.seconds(), (16 + 1) * 2.0 + (16 + 1) * 1.0);
}

TEST(RunEstimateTest, ReplicasShareTheSamplesOfAStep) {
  Job job;
  job.machine.learning_step_s = 1.0;  // of each sample
  job.work.recipe.train.batch_size = 2;
  EXPECT_DOUBLE_EQ(job.estimate().seconds(), (8 + 1) * 2.0 * 2.0);
  job.shape.ranks = 4;
  job.shape.replicas = 2;
  EXPECT_DOUBLE_EQ(job.estimate().seconds(), (8 + 1) * 2.0);
  EXPECT_EQ(job.estimate().stages, 2);
}

TEST(RunEstimateTest, ATreeSumHasARoundForEachLevelInEveryStep) {
  Job job;
  job.work.recipe.train.batch_size = 4;
  job.shape = {.ranks = 8, .samples = 8, .replicas = 4};
  job.machine.link = 1e3;
  job.work.tokens = 0;  // no messages between stages
  // 2 rounds of 4000 bytes, both ways at once: 8 s a block and step.
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), (4 + 1) * 2 * 8.0);
}

TEST(RunEstimateTest, ReplicasThatCannotShareAreRefused) {
  Job job;
  job.shape.ranks = 8;
  job.work.recipe.train.batch_size = 4;
  for (const int replicas : {0, 3, 8}) {
    job.shape.replicas = replicas;
    EXPECT_THROW((void)job.estimate(), UsageError) << replicas;
  }
  job.shape = {.ranks = 2, .samples = 8, .replicas = 4};
  EXPECT_THROW((void)job.estimate(), UsageError);
  job.shape = {.ranks = 2, .samples = 3};
  EXPECT_THROW((void)job.estimate(), UsageError);
}

TEST(RunEstimateTest, ASlowRankHoldsUpAllOfThem) {
  Job job;
  job.machine.learning_step_s = 1.0;
  job.shape.slow_rank = 1;
  job.shape.slow_factor = 3.0;
  EXPECT_DOUBLE_EQ(job.estimate().seconds(), 2.0 + 16 * 6.0);
}

TEST(RunEstimateTest, AMessageLongerThanAStepHoldsUpTheNextStageByTheBuffersAlone) {
  Job job;
  job.machine.learning_step_s = 1.0;
  job.machine.latency_s = 2.0;  // as long as a step of two blocks: hidden but once
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), (16 + 1) * 2.0 + 2.0);
  job.shape.slow_links = 3.0;  // 6 s with two under way: one each 3 s
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), 2.0 + 6.0 + 15 * 2.0 + 7 * 2.0 + 2.0);
}

TEST(RunEstimateTest, FilesHideBehindComputingUntilTheyTakeLonger) {
  Job job;
  job.shape.ranks = 1;
  job.machine.learning_step_s = 1.0;
  job.machine.hdf5_read = 4.0 * 2048 * 4096 / 0.5;  // half a second a sample
  // Four steps of a second, and four targets and the wave's input in the same time.
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), 16 * 4.0);
  job.machine.hdf5_read /= 4.0;
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), 16 * 5 * 2.0);
}

TEST(RunEstimateTest, TargetsInMemoryAreReadOnceAWave) {
  Job job;
  job.shape.ranks = 1;
  job.shape.targets = Targets::kMemory;
  job.machine.hdf5_read = 4.0 * 2048 * 4096 / 0.5;
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), 8 * 5 * 0.5);
}

TEST(RunEstimateTest, RecomputedTargetsAreNotReadAndTravelWithTheOutputs) {
  Job job;
  job.shape.ranks = 2;
  const double disk = job.estimate().disk_bytes;
  const double wire = job.estimate().wire_bytes();
  job.shape.targets = Targets::kRecompute;
  job.machine.hdf5_read = 4.0 * 2048 * 4096 / 0.5;
  // The first stage alone reads: the wave's input, in both chains.
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "learn"), 16 * 2 * 0.5);
  const double boundary = 8 * 4.0 * 2048 * 4096;
  EXPECT_DOUBLE_EQ(job.estimate().disk_bytes, disk - 4 * boundary);  // 1 of 5: one wave
  // Twice as much in learning (16 steps) and in both passes of freezing (8 samples).
  EXPECT_DOUBLE_EQ(job.estimate().wire_bytes(), wire + (16 + 2 * 8) * boundary / 8);
}

TEST(RunEstimateTest, BlocksThatAreNotResidentAreReadInEveryTurn) {
  Job job;
  job.shape.ranks = 1;
  job.shape.resident_blocks = 2;
  job.model.embedding = 0;
  job.work.recipe.train.epochs = 3;
  job.machine.checkpoint_read = static_cast<double>(2 * job.work.block.parameters);  // 1 s a block
  // Eight samples are one turn, so all four blocks are read once in each pass.
  EXPECT_NEAR(seconds_of(job.estimate(), "chain"), 4.0, 1e-9);
  EXPECT_NEAR(seconds_of(job.estimate(), "freeze"), 2 * 4.0, 1e-9);
  // When the trainers are made, in the first epoch's turn, and, all but the one that stays, in the
  // two others'.
  EXPECT_NEAR(seconds_of(job.estimate(), "learn"), 4.0 + 4.0 + 2 * 3.0, 1e-9);
  job.shape.samples = 20;  // a turn of 16 and one of 4 in each epoch
  EXPECT_NEAR(seconds_of(job.estimate(), "learn"), 4.0 + 4.0 + 5 * 3.0, 1e-9);
  EXPECT_NEAR(seconds_of(job.estimate(), "chain"), 4.0 + 3.0, 1e-9);
  job.shape.resident_blocks = 4;
  EXPECT_NEAR(seconds_of(job.estimate(), "learn"), 4.0 + 4.0, 1e-9);
}

TEST(RunEstimateTest, AStageWaitsForAWholeTurnOfTheOneBefore) {
  Job job;
  job.machine.learning_step_s = 1.0;
  job.shape.resident_blocks = 1;
  // Two epochs, each a turn of eight steps of two blocks, and one turn more for the second stage.
  EXPECT_NEAR(job.estimate().seconds(), (2 + 1) * 8 * 2.0, 1e-9);
}

TEST(RunEstimateTest, StorageIsSharedByTheRanksOfANode) {
  Job job;
  job.machine.hdf5_write = 4.0 * 2048 * 4096;  // a second a sample
  job.work.file_bytes = 0;                     // weights come from there too; not here
  // The first rank writes the embedding's outputs too: 3 a sample, 2 behind it.
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "chain"), 8 * 3.0 + 2.0);
  job.machine.storage = 4.0 * 2048 * 4096;
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "chain"), 2 * (8 * 3.0 + 2.0));
  job.machine.ranks_per_node = 1;
  EXPECT_DOUBLE_EQ(seconds_of(job.estimate(), "chain"), 8 * 3.0 + 2.0);
}

TEST(RunEstimateTest, CountsWhatGoesOverTheWireAndToDisk) {
  const double boundary = 4.0 * 2048 * 4096;
  const RunEstimate estimate = Job(8).estimate();
  // Chain: 8 samples once; each of two waves: 16 steps, 2 passes of 8 samples.
  EXPECT_DOUBLE_EQ(estimate.wire_bytes(), (8 + 2 * (16 + 16)) * boundary);
  const double snapshots = 2 * 4 * 4 * 4.0 * 1000;
  EXPECT_DOUBLE_EQ(estimate.disk_bytes,
                   (9 + 2) * 8 * boundary + 8 * 4000.0 + snapshots + 4.0 * 8 * 2048);
}

TEST(RunEstimateTest, RanksBeyondTheBlocksHoldNothing) {
  Job job;
  job.shape.ranks = 6;
  const auto ranks = estimate_ranks(job.work, job.model, job.machine, job.shape);
  EXPECT_EQ(ranks[3].share.chain_blocks, 1);
  EXPECT_EQ(ranks[4].share.chain_blocks, 0);
  EXPECT_DOUBLE_EQ(ranks[5].memory.most(), 0.0);
  EXPECT_EQ(heaviest_rank(ranks).rank, 0);
}

TEST(RunEstimateTest, AThousandStagesAreSimulated) {
  const LearnShape shape{.ranks = 1024, .stages = 1024, .steps = 64, .report_every = 8};
  EXPECT_DOUBLE_EQ(simulate(plan_waves(shape)).seconds, 64 + 1023);
}

TEST(PlanChoiceTest, TellsHowManyRanksABlockChainNeeds) {
  // A block of Llama-3.1-405B takes 6.375 GB in bfloat16; beside its embedding in float32, 8.4 GB,
  // ten fit on the first of 80 GB and eleven do not: 126 blocks need 13 ranks.
  const auto family = family_of_config("llama-3.1-405b");
  const ModelFigures model = model_figures(*family);
  BlockWork work = work_of_7b(recipe_with_bits(4, 4));
  work.block = model.block;
  work.compute_bytes = work.store_bytes = 2;
  const Machine& h100 = known_machine("h100");
  EXPECT_EQ(advice_to_fit(work, model, h100, {.ranks = 8, .on_device = true}),
            "use more ranks: --ranks 13, or hold fewer of a rank's blocks at a time: "
            "--resident-blocks 10");
  EXPECT_EQ(advice_to_fit(work, model, h100, {.ranks = 13, .on_device = true}), "");
}

TEST(PlanChoiceTest, OffersTheShorterDtypeFirst) {
  Job job(32);
  job.shape.ranks = 1;
  job.machine.memory_bytes = 20e9;  // 32 blocks of 809.5 MB in float32 do not fit
  EXPECT_EQ(advice_to_fit(job.work, job.model, job.machine, job.shape),
            "compute in bfloat16: --dtype bfloat16");
}

TEST(PlanChoiceTest, ComparesWidthsAndPlacesOfTargets) {
  Job job(8);
  job.shape.ranks = 8;
  job.work.recipe.train.batch_size = 2;
  std::map<Targets, int> found;
  for (const Schedule& schedule : compare_schedules(job.work, job.model, job.machine, job.shape)) {
    ++found[schedule.targets];
    EXPECT_EQ(schedule.replicas, schedule.wave == 8 ? 1 : 2);  // 8 ranks, batch 2
  }
  EXPECT_EQ(found, (std::map<Targets, int>{// waves of 1, 4 and 8
                                           {Targets::kDisk, 3},
                                           {Targets::kMemory, 3},
                                           {Targets::kRecompute, 3}}));
  job.work.recipe.weights.rounding = recipe::Rounding::kGptq;
  for (const Schedule& schedule : compare_schedules(job.work, job.model, job.machine, job.shape)) {
    EXPECT_EQ(schedule.wave, 1);
  }
}

}  // namespace
}  // namespace lrq::pipeline

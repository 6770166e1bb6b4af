#include "src/pipeline/calibration.h"

#include <fstream>
#include <iterator>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/run_manifest.h"
#include "io/token_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "tests/dist/threads.h"
#include "tests/fakes/scratch_folder.h"
#include "tests/pipeline/shipped_recipe.h"

namespace lrq::pipeline {
namespace {

using io::make_posix_file_system;

/// Calibrations of the 260K-parameter model with ranks as threads of this process.
class CalibrationTest : public testing::Test {
 protected:
  CalibrationTest() {
    start_log(Rank{0}, LogLevel::kOff);
    tokens_ = scratch_.path() / "tokens.npy";
    use_samples(6);
    request_.recipe.weights.bits = 4;
    request_.recipe.activations.bits = 6;
    request_.recipe.train.epochs = 2;
    request_.recipe.train.wave = 2;
    request_.recipe.train.batch_size = 2;
    request_.tokens = 24;
  }

  void use_samples(std::int64_t count) {
    const at::Tensor ids = (at::arange(count * 24) * 37 % 509 + 3).to(at::kInt).view({count, 24});
    io::write_token_file(*make_posix_file_system(), tokens_, ids);
    request_.texts = {tokens_.string()};
    request_.samples = count;
  }

  /// The bytes of all block files of a run on `ranks` ranks.
  std::string blocks_of(const std::string& name, int ranks) {
    run(name, ranks);
    return block_bytes();
  }

  void run(const std::string& name, int ranks) {
    request_.run = scratch_.path() / name;
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& transport) {
      const auto files = make_posix_file_system();
      const ModelSource model(LRQ_TEST_DATA "/stories260k");
      (void)calibrate(transport, *files, model, request_);
    });
  }

  [[nodiscard]] bool finished() const {
    const auto files = make_posix_file_system();
    return io::load_manifest(*files, request_.run)->finished;
  }

  [[nodiscard]] std::string block_bytes() const {
    std::string bytes;
    for (int block = 0; block < 5; ++block) {
      std::ifstream file(
          request_.run / "blocks" / ("block-00" + std::to_string(block) + ".safetensors"),
          std::ios::binary);
      EXPECT_TRUE(file) << block;
      bytes.append(std::istreambuf_iterator<char>(file), {});
    }
    return bytes;
  }

  ScratchFolder scratch_;
  std::filesystem::path tokens_;
  CalibrationRequest request_;
};

TEST_F(CalibrationTest, BlockFilesAreEqualOnAnyNumberOfRanks) {
  const std::string one = blocks_of("one", 1);
  for (const int ranks : {2, 3, 5}) {
    EXPECT_TRUE(blocks_of("ranks" + std::to_string(ranks), ranks) == one) << ranks;
  }
}

TEST_F(CalibrationTest, WhereTargetsComeFromAndHowManyBlocksAreInMemoryChangeNoBit) {
  const std::string plain = blocks_of("plain", 1);
  const std::vector<std::pair<Targets, int>> options = {
      {Targets::kDisk, 1},   {Targets::kDisk, 2},      {Targets::kMemory, 0},
      {Targets::kMemory, 1}, {Targets::kRecompute, 0}, {Targets::kRecompute, 1}};
  int run = 0;
  for (const auto& [targets, resident] : options) {
    for (const int ranks : {1, 3 + run % 2}) {  // 4: two stages of two replicas
      request_.targets = targets;
      request_.resident_blocks = resident;
      request_.cut_every = 1 + run % 3;
      EXPECT_TRUE(blocks_of("run" + std::to_string(++run), ranks) == plain)
          << targets_name(targets) << ", resident " << resident << ", ranks " << ranks;
    }
  }
}

TEST_F(CalibrationTest, WeightsThatComeAndGoChangeNoBitWhereTheLossNeedsTheOriginalBlock) {
  request_.recipe.loss.mse_r = request_.recipe.loss.nlc_r = 1.0;
  request_.recipe.loss.balance = recipe::Balance::kEma;
  request_.recipe.train.emit = recipe::Emit::kPost;
  request_.recipe.train.keep_best = true;
  request_.recipe.train.wave = 5;
  const std::string plain = blocks_of("plain", 2);
  request_.resident_blocks = 2;
  request_.targets = Targets::kRecompute;
  EXPECT_TRUE(blocks_of("recompute", 2) == plain);
  request_.targets = Targets::kMemory;
  EXPECT_TRUE(blocks_of("memory", 1) == plain);
}

TEST_F(CalibrationTest, IndependentBlocksTakeTurnsInMemory) {
  request_.recipe.train.schedule = recipe::Schedule::kIndependent;
  const std::string plain = blocks_of("plain", 1);
  request_.resident_blocks = 1;
  EXPECT_TRUE(blocks_of("turns", 2) == plain);
  request_.targets = Targets::kMemory;
  EXPECT_TRUE(blocks_of("memory", 1) == plain);
  request_.targets = Targets::kRecompute;
  EXPECT_THROW((void)blocks_of("recompute", 1), UsageError);
}

TEST_F(CalibrationTest, RecomputedTargetsLeaveNothingOnTheDisk) {
  request_.targets = Targets::kRecompute;
  (void)blocks_of("run", 2);
  EXPECT_TRUE(std::filesystem::is_empty(request_.run / "activations"));
}

TEST_F(CalibrationTest, AQuotaRemovesWhatNoLaterWaveReads) {
  const std::string plain = blocks_of("plain", 2);
  EXPECT_FALSE(std::filesystem::is_empty(request_.run / "activations"));
  request_.disk_quota = 8 * 6 * 24 * 64 * 4;  // 6 boundaries, inputs and outputs of a wave
  EXPECT_TRUE(blocks_of("tight", 2) == plain);
  EXPECT_TRUE(std::filesystem::is_empty(request_.run / "activations"));
  --request_.disk_quota;
  try {
    (void)blocks_of("refused", 2);
    FAIL() << "a quota that is too small";
  } catch (const UsageError& error) {
    EXPECT_EQ(error.text().what, "activations take up to 288 KiB, and 288 KiB are allowed");
    EXPECT_EQ(error.text().fix, "use --targets recompute, which takes up to 144 KiB");
  }
}

/// A run is stopped in each of its waves, and goes on with other memory options and ranks.
TEST_F(CalibrationTest, AResumeMayChangeWhereTargetsComeFrom) {
  const std::string plain = blocks_of("plain", 1);
  const std::vector<Targets> places = {Targets::kRecompute, Targets::kDisk, Targets::kRecompute,
                                       Targets::kMemory};
  request_.cut_every = 1;
  for (int stops = 1; stops <= 4; ++stops) {  // answers "go on" so many times before each stop
    const std::string name = "stops" + std::to_string(stops);
    request_.resume = true;
    for (int call = 0; call < 40; ++call) {
      request_.targets = places[static_cast<std::size_t>(call) % places.size()];
      request_.resident_blocks = call % 3;
      int asked = 0;  // by rank 0 alone
      request_.stop_asked = [&asked, stops] { return ++asked > 2 * stops; };
      run(name, 1 + call % 3);
      if (finished()) break;
    }
    EXPECT_TRUE(finished());
    EXPECT_TRUE(block_bytes() == plain) << stops;
  }
}

TEST_F(CalibrationTest, IndependentBlocksAreEqualOnAnyNumberOfRanks) {
  request_.recipe.train.schedule = recipe::Schedule::kIndependent;
  const std::string one = blocks_of("one", 1);
  EXPECT_TRUE(blocks_of("four", 4) == one);
}

/// Twelve samples are eight chunks, some of one sample and some of two.
TEST_F(CalibrationTest, RanksThatShareTheSamplesOfABlockMakeTheFilesOfOne) {
  const std::vector<std::pair<const char*, std::vector<std::string>>> recipes = {
      {"duquant-w4a4",
       {"train.wave=1", "rotation.calib=tokens", "rotation.calib_tokens=100", "rotation.steps=4",
        "rotation.draws=2"}},
      {"lrq-w4a4", {"train.epochs=1", "train.batch_size=4", "gptq.sequential=false"}},
      {"rptq-w4a4", {"clusters.norms=8", "clusters.range=ema"}}};
  use_samples(12);
  for (const auto& [name, changes] : recipes) {
    request_.recipe = shipped_recipe(name, changes);
    const std::string one = blocks_of(std::string(name) + "-1", 1);
    for (const int ranks : {3, 5}) {
      EXPECT_TRUE(blocks_of(name + std::to_string(-ranks), ranks) == one) << name << ", " << ranks;
    }
  }
}

TEST_F(CalibrationTest, IndependentBlocksShareTheSamplesOfEachToo) {
  use_samples(8);
  request_.recipe = shipped_recipe(
      "rptq-w4a8", {"clusters.norms=8", "train.wave=5", "train.schedule=independent"});
  const std::string one = blocks_of("one", 1);
  EXPECT_TRUE(blocks_of("five", 5) == one);
}

TEST_F(CalibrationTest, ABlockThatIsRoundedBySamplesIsFinishedAfterAStop) {
  use_samples(8);
  request_.recipe = shipped_recipe("lrq-w4a4", {"train.epochs=2", "rotation.steps=2"});
  const std::string plain = blocks_of("plain", 1);
  request_.resume = true;
  request_.cut_every = 3;
  int calls = 0;
  do {
    int asked = 0;
    request_.stop_asked = [&asked] { return ++asked > 6; };
    run("stopped", 1 + ++calls % 3);
  } while (!finished() && calls < 60);
  EXPECT_GT(calls, 3);
  EXPECT_TRUE(block_bytes() == plain);
}

TEST_F(CalibrationTest, AWaveAsWideAsTheModelDiffersFromOneBlockAtATime) {
  request_.recipe.train.wave = 1;
  const std::string published_order = blocks_of("w1", 1);
  request_.recipe.train.wave = 5;
  EXPECT_FALSE(blocks_of("w5", 1) == published_order);
}

TEST_F(CalibrationTest, ALostBlockFileIsLearnedAgainToTheSameBytes) {
  const std::string whole = blocks_of("run", 2);
  std::filesystem::remove(request_.run / "blocks/block-002.safetensors");
  request_.resume = true;
  EXPECT_TRUE(blocks_of("run", 3) == whole);
}

TEST_F(CalibrationTest, AFinishedRunIsLeftAloneByAResume) {
  (void)blocks_of("run", 1);
  const auto before = std::filesystem::last_write_time(request_.run / "run.json");
  request_.resume = true;
  (void)blocks_of("run", 2);
  EXPECT_EQ(std::filesystem::last_write_time(request_.run / "run.json"), before);
}

TEST_F(CalibrationTest, ASecondRunInTheSameDirectoryIsRefused) {
  (void)blocks_of("run", 1);
  EXPECT_THROW((void)blocks_of("run", 1), UsageError);
}

TEST_F(CalibrationTest, AResumeNamesWhatDiffers) {
  (void)blocks_of("run", 1);
  request_.resume = true;
  request_.recipe.train.wave = 3;
  request_.seed = 7;
  try {
    (void)blocks_of("run", 1);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(error.text().what.find("recipe.train.wave: run has 2, asked 3"), std::string::npos)
        << error.text().what;
    EXPECT_NE(error.text().what.find("seed: run has 2, asked 7"), std::string::npos);
  }
}

TEST_F(CalibrationTest, MoreRanksThanBlocksShareSamplesOrWait) {
  EXPECT_TRUE(blocks_of("seven", 7) == blocks_of("one", 1));
}

TEST_F(CalibrationTest, MoreRanksThanBlocksTimesTheBatchAreRefusedOnEveryRank) {
  EXPECT_THROW((void)blocks_of("run", 11), UsageError);
}

}  // namespace
}  // namespace lrq::pipeline

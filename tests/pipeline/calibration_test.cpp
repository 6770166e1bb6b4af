#include "src/pipeline/calibration.h"

#include <fstream>
#include <iterator>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/token_file.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "tests/dist/threads.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::pipeline {
namespace {

using io::make_posix_file_system;

/// Calibrations of the 260K-parameter model with ranks as threads of this process.
class CalibrationTest : public testing::Test {
 protected:
  CalibrationTest() {
    start_log(Rank{0}, LogLevel::kOff);
    const auto files = make_posix_file_system();
    tokens_ = scratch_.path() / "tokens.npy";
    const at::Tensor ids = (at::arange(6 * 24) * 37 % 509 + 3).to(at::kInt).view({6, 24});
    io::write_token_file(*files, tokens_, ids);
    request_.texts = {tokens_.string()};
    request_.recipe.weights.bits = 4;
    request_.recipe.activations.bits = 6;
    request_.recipe.train.epochs = 2;
    request_.recipe.train.wave = 2;
    request_.recipe.train.batch_size = 2;
    request_.samples = 6;
    request_.tokens = 24;
  }

  /// The bytes of all block files of a run on `ranks` ranks.
  std::string blocks_of(const std::string& name, int ranks) {
    request_.run = scratch_.path() / name;
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& transport) {
      const auto files = make_posix_file_system();
      const ModelSource model(LRQ_TEST_DATA "/stories260k");
      (void)calibrate(transport, *files, model, request_);
    });
    return block_bytes();
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

TEST_F(CalibrationTest, IndependentBlocksAreEqualOnAnyNumberOfRanks) {
  request_.recipe.train.schedule = recipe::Schedule::kIndependent;
  const std::string one = blocks_of("one", 1);
  EXPECT_TRUE(blocks_of("four", 4) == one);
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

TEST_F(CalibrationTest, MoreRanksThanBlocksAreRefusedOnEveryRank) {
  EXPECT_THROW((void)blocks_of("run", 6), UsageError);
}

}  // namespace
}  // namespace lrq::pipeline

#include "src/pipeline/stage_samples.h"

#include <atomic>
#include <memory>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/pipeline/kept_samples.h"
#include "src/pipeline/resident_blocks.h"

namespace lrq::pipeline {
namespace {

/// Sample n of boundary b is the number 100 b + n; counts what is read of it.
class Numbers : public io::BoundaryReader {
 public:
  Numbers(int boundary, std::atomic<int>& reads) : boundary_(boundary), reads_(reads) {}
  [[nodiscard]] at::Tensor read(std::int64_t sample) const override {
    ++reads_;
    return at::full({1, 1, 1}, 100.0 * boundary_ + static_cast<double>(sample));
  }

 private:
  int boundary_;
  std::atomic<int>& reads_;
};

class StageSamplesTest : public testing::Test {
 protected:
  /// Two blocks: the first with inputs (boundary 1) and targets (2), the second with targets (3).
  StageSamples make(const StageSamples::Order& order) {
    std::vector<StageSamples::Readers> readers(2);
    readers[0] = {std::make_unique<Numbers>(1, reads_), std::make_unique<Numbers>(2, reads_)};
    readers[1] = {nullptr, std::make_unique<Numbers>(3, reads_)};
    return {std::move(readers), order};
  }

  static std::vector<double> values(const std::vector<at::Tensor>& samples) {
    std::vector<double> numbers;
    for (const at::Tensor& sample : samples) numbers.push_back(sample.item<double>());
    return numbers;
  }

  std::atomic<int> reads_ = 0;
};

// Two micro-batches of four samples, of which this rank has the last two.
constexpr std::int64_t kMicroBatches = 2;
StageSamples::Order two_epochs() {
  return {.first_step = 0,
          .steps = 4,
          .micro_batches = kMicroBatches,
          .batch_size = 4,
          .offset = 2,
          .count = 2};
}

TEST_F(StageSamplesTest, AStepTakesItsOwnSamplesOfEachBlock) {
  StageSamples samples = make(two_epochs());
  for (std::int64_t step = 0; step < 4; ++step) {
    const double first = step % 2 == 0 ? 2.0 : 6.0;
    EXPECT_EQ(values(samples.inputs(0, step)), (std::vector{100 + first, 101 + first}));
    EXPECT_EQ(values(samples.targets(0, step)), (std::vector{200 + first, 201 + first}));
    EXPECT_EQ(values(samples.targets(1, step)), (std::vector{300 + first, 301 + first}));
  }
  EXPECT_EQ(reads_, 4 * 3 * 2);
}

TEST_F(StageSamplesTest, ABlockDoesAWholeTurnBeforeTheNextAndTurnsMayEndSooner) {
  StageSamples::Order order = two_epochs();
  std::int64_t last = 4;
  order.turn_end = [&last](std::int64_t first) { return std::min(last, first + 3); };
  StageSamples samples = make(order);
  for (const std::int64_t step : {0, 1, 2}) {
    EXPECT_EQ(values(samples.inputs(0, step)).front(), step % 2 == 0 ? 102 : 106);
    (void)samples.targets(0, step);
  }
  for (const std::int64_t step : {0, 1, 2}) {
    EXPECT_EQ(values(samples.targets(1, step)).front(), step % 2 == 0 ? 302 : 306);
  }
  last = 4;
  samples.restart(2);  // a stop: steps 2 and 3 are a turn of their own
  (void)samples.inputs(0, 2);
  EXPECT_EQ(values(samples.targets(0, 2)).front(), 202);
  EXPECT_EQ(values(samples.inputs(0, 3)).front(), 106);
}

TEST_F(StageSamplesTest, AnotherOrderIsABug) {
  StageSamples samples = make(two_epochs());
  EXPECT_THROW((void)samples.targets(0, 0), BugError);
}

TEST(KeptSamplesTest, WhatIsKeptIsReadOnceAndUntilItIsCleared) {
  std::atomic<int> reads = 0;
  KeptSamples kept;
  const io::Boundary one{io::Chain::kFullPrecision, BoundaryIndex{1}};
  const io::Boundary two{io::Chain::kQuantized, BoundaryIndex{1}};
  const auto keeping = kept_reader(kept, one, std::make_unique<Numbers>(1, reads), Keep::kYes);
  const auto other = kept_reader(kept, two, std::make_unique<Numbers>(2, reads), Keep::kYes);
  const auto looking = kept_reader(kept, one, std::make_unique<Numbers>(1, reads), Keep::kNo);
  EXPECT_EQ(looking->read(5).item<double>(), 105);
  for (int time = 0; time < 3; ++time) {
    EXPECT_EQ(keeping->read(5).item<double>(), 105);
    EXPECT_EQ(other->read(5).item<double>(), 205);
    EXPECT_EQ(looking->read(5).item<double>(), 105);
  }
  EXPECT_EQ(reads, 3);
  kept.clear();
  EXPECT_EQ(keeping->read(5).item<double>(), 105);
  EXPECT_EQ(reads, 4);
}

TEST(ResidentBlocksTest, AllBlocksButTheOneInTurnStay) {
  std::string told;
  const auto drop = [&](int i) { told += " -" + std::to_string(i); };
  const auto load = [&](int i) { told += " +" + std::to_string(i); };
  const auto two_rounds = [&](int limit) {
    told.clear();
    ResidentBlocks blocks(4, limit);
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 4; ++i) blocks.enter(i, drop, load);
    }
    return told;
  };
  EXPECT_EQ(two_rounds(0), " +0 +1 +2 +3");
  EXPECT_EQ(two_rounds(4), " +0 +1 +2 +3");
  EXPECT_EQ(two_rounds(3), " +0 +1 +2 -2 +3 -3 +2 -2 +3");
  EXPECT_EQ(two_rounds(1), " +0 -0 +1 -1 +2 -2 +3 -3 +0 -0 +1 -1 +2 -2 +3");
  // So many, for a plan.
  EXPECT_EQ(loads_of_turn(4, 3, true), 4);
  EXPECT_EQ(loads_of_turn(4, 3, false), 2);
  EXPECT_EQ(loads_of_turn(4, 1, false), 4);
  for (const int limit : {0, 4, 5}) EXPECT_EQ(loads_of_turn(4, limit, false), 0);
}

}  // namespace
}  // namespace lrq::pipeline

#include "src/pipeline/resume.h"

#include <set>
#include <utility>

#include <gtest/gtest.h>

namespace lrq::pipeline {
namespace {

struct Disk {
  int waves = 4;
  bool chain = true;
  bool maps = true;
  bool finished = false;
  std::optional<io::SnapshotKey> cut = {};
  std::set<int> blocks = {};
  std::set<int> inputs = {};
  std::set<io::SnapshotKey> snapshots = {};
  mutable std::pair<int, bool> needed = {};  ///< what was asked of the chain

  [[nodiscard]] ResumePoint resume() const {
    return find_resume_point(
        {.waves = waves,
         .finished = finished,
         .cut = cut,
         .chain_complete =
             [this](int wave, bool maps_too) {
               needed = {wave, maps_too};
               return chain;
             },
         .maps_complete = [this] { return maps; },
         .blocks_complete = [this](int w) { return blocks.contains(w); },
         .inputs_complete = [this](int w) { return inputs.contains(w); },
         .snapshot_complete =
             [this](const io::SnapshotKey& key) { return snapshots.contains(key); }});
  }
};

TEST(ResumeTest, EmptyDirectoryStartsAtTheBeginning) {
  EXPECT_EQ(Disk{.chain = false}.resume(), (ResumePoint{.redo_chain = true}));
}

TEST(ResumeTest, MissingMapsAreBuiltAgainAndNothingElse) {
  const Disk disk{.maps = false, .blocks = {0}, .inputs = {1}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.redo_maps = true, .freeze_from = 1, .learn_wave = 1}));
}

TEST(ResumeTest, GoesOnBehindTheNamedCut) {
  const Disk disk{
      .cut = io::SnapshotKey{1, 48}, .blocks = {0}, .inputs = {1}, .snapshots = {{1, 48}}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.freeze_from = 1, .learn_wave = 1, .first_step = 48}));
}

TEST(ResumeTest, ATornSnapshotMeansTheWaveFromItsStart) {
  const Disk disk{.cut = io::SnapshotKey{1, 48}, .blocks = {0}, .inputs = {1}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.freeze_from = 1, .learn_wave = 1, .first_step = 0}));
}

TEST(ResumeTest, ACutOfAnotherWaveIsNotUsed) {
  // Wave 0 was finished after its last cut, and wave 1 has none yet.
  const Disk disk{
      .cut = io::SnapshotKey{0, 48}, .blocks = {0}, .inputs = {1}, .snapshots = {{0, 48}}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.freeze_from = 1, .learn_wave = 1}));
}

TEST(ResumeTest, MissingInputsAreMadeAgainFromTheNewestThatAreThere) {
  const Disk disk{
      .cut = io::SnapshotKey{3, 16}, .blocks = {0, 1, 2}, .inputs = {1}, .snapshots = {{3, 16}}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.freeze_from = 1, .learn_wave = 3, .first_step = 16}));
}

TEST(ResumeTest, OfTheChainOnlyWhatComesFromTheFirstWaveToFreezeIsNeeded) {
  Disk disk{.blocks = {0, 1, 2}, .inputs = {1, 2}};
  EXPECT_FALSE(disk.resume().redo_chain);
  EXPECT_EQ(disk.needed, std::pair(2, false));
  disk.maps = false;
  disk.chain = false;
  EXPECT_TRUE(disk.resume().redo_chain);
  EXPECT_EQ(disk.needed, std::pair(2, true));
}

TEST(ResumeTest, ALostBlockFileIsLearnedAgain) {
  const Disk disk{.finished = true, .blocks = {0, 2, 3}, .inputs = {1, 2, 3}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.freeze_from = 1, .learn_wave = 1}));
}

TEST(ResumeTest, AfterTheLastWaveOnlyFreezingIsLeft) {
  const Disk disk{.blocks = {0, 1, 2, 3}, .inputs = {3}};
  EXPECT_EQ(disk.resume(), (ResumePoint{.freeze_from = 3, .learn_wave = 4}));
}

TEST(ResumeTest, AFinishedRunHasNothingLeft) {
  const Disk disk{.chain = false, .finished = true, .blocks = {0, 1, 2, 3}};
  EXPECT_TRUE(disk.resume().nothing_left);
}

}  // namespace
}  // namespace lrq::pipeline

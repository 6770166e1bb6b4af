#include "io/block_state_store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/run_manifest.h"
#include "src/base/error.h"
#include "tests/fakes/crashing_file_system.h"
#include "tests/fakes/memory_file_system.h"

namespace lrq::io {
namespace {

constexpr BlockIndex kBlock{17};

TensorFile state(double value) {
  return {.tensors = {{"scale", at::full({4}, value)}}, .metadata = {{"format", "1"}}};
}
double value_of(const TensorFile& file) { return file.tensors.at("scale")[0].item<double>(); }

TEST(BlockStateStoreTest, FilesLieWhereTheDesignSaysAndHoldWhatWasSaved) {
  MemoryFileSystem disk;
  BlockStateStore store(disk, "/run");
  store.save_block(kBlock, state(1));
  store.save_statistics(kBlock, state(2));
  store.save_snapshot({.wave = 2, .step = 96}, kBlock, state(3));
  EXPECT_TRUE(disk.exists("/run/blocks/block-017.safetensors"));
  EXPECT_TRUE(disk.exists("/run/stats/block-017.safetensors"));
  EXPECT_TRUE(disk.exists("/run/snapshots/wave-02/step-00096/block-017.safetensors"));
  EXPECT_EQ(value_of(store.load_block(kBlock)), 1);
  EXPECT_EQ(value_of(store.load_statistics(kBlock)), 2);
  EXPECT_EQ(value_of(store.load_snapshot({.wave = 2, .step = 96}, kBlock)), 3);
  EXPECT_FALSE(store.has_block(BlockIndex{16}));
  EXPECT_THROW(static_cast<void>(store.load_block(BlockIndex{16})), DataError);
}

TEST(BlockStateStoreTest, TornFileCountsAsMissing) {
  MemoryFileSystem disk;
  BlockStateStore store(disk, "/run");
  store.save_block(kBlock, state(1));
  EXPECT_TRUE(store.has_block(kBlock));
  disk.append("/run/blocks/block-017.safetensors", "x");
  EXPECT_FALSE(store.has_block(kBlock));
}

TEST(BlockStateStoreTest, RemovesOneSnapshotOrThoseOfFinishedWaves) {
  MemoryFileSystem disk;
  BlockStateStore store(disk, "/run");
  const SnapshotKey old{.wave = 1, .step = 64};
  const SnapshotKey newer{.wave = 1, .step = 96};
  const SnapshotKey next_wave{.wave = 2, .step = 32};
  for (const SnapshotKey& key : {old, newer, next_wave}) store.save_snapshot(key, kBlock, state(1));
  store.remove_snapshot(old);
  EXPECT_FALSE(store.has_snapshot(old, kBlock));
  EXPECT_TRUE(store.has_snapshot(newer, kBlock));
  store.remove_snapshots_through(1);
  EXPECT_FALSE(store.has_snapshot(newer, kBlock));
  EXPECT_TRUE(store.has_snapshot(next_wave, kBlock));
}

/// Run `work` on a copy of the disk once per crash point, and hand every disk that a power loss can
/// leave to `look`.  Returns how many calls the work makes.
template <typename Prepare, typename Work, typename Look>
int at_every_crash(const Prepare& prepare, const Work& work, const Look& look) {
  for (int call = 1;; ++call) {
    MemoryFileSystem disk = prepare();
    CrashingFileSystem dying(disk, call);
    bool crashed = false;
    try {
      work(dying);
    } catch (const SimulatedCrash&) {
      crashed = true;
    }
    for (const PowerLoss loss : {PowerLoss::kDropsRenames, PowerLoss::kKeepsRenames}) {
      look(disk.after_power_loss(loss), crashed, call);
    }
    if (!crashed) return call - 1;
  }
}

TEST(BlockStateStoreTest, AnyCrashLeavesTheOldOrTheNewBlock) {
  int news = 0;
  const int calls = at_every_crash(
      [] {
        MemoryFileSystem disk;
        BlockStateStore(disk, "/run").save_block(kBlock, state(1));
        return disk;
      },
      [](FileSystem& files) { BlockStateStore(files, "/run").save_block(kBlock, state(2)); },
      [&](MemoryFileSystem disk, bool crashed, int call) {
        const double found = value_of(BlockStateStore(disk, "/run").load_block(kBlock));
        EXPECT_TRUE(found == 2 || (crashed && found == 1)) << found << ", crash at call " << call;
        news += found == 2 ? 1 : 0;
      });
  EXPECT_EQ(calls, 5);  // folder, write, sync, rename, sync of the folder
  EXPECT_EQ(news, 3);   // both disks when nothing crashed, and a rename that got through unsynced
}

TEST(BlockStateStoreTest, AnyCrashOfAFirstSaveLeavesNoBlockOrAWholeOne) {
  at_every_crash(
      [] { return MemoryFileSystem(); },
      [](FileSystem& files) { BlockStateStore(files, "/run").save_block(kBlock, state(2)); },
      [](MemoryFileSystem disk, bool crashed, int call) {
        const BlockStateStore store(disk, "/run");
        EXPECT_TRUE(crashed || store.has_block(kBlock));
        EXPECT_EQ(store.has_block(kBlock), disk.exists("/run/blocks/block-017.safetensors"))
            << "crash at call " << call;
      });
}

TEST(RunManifestTest, AnyCrashLeavesTheOldOrTheNewManifest) {
  const auto manifest = [](std::int64_t step) {
    RunManifest made;
    made.cut = SnapshotKey{.wave = 1, .step = step};
    return made;
  };
  at_every_crash(
      [&] {
        MemoryFileSystem disk;
        save_manifest(disk, "/run", manifest(8));
        return disk;
      },
      [&](FileSystem& files) { save_manifest(files, "/run", manifest(16)); },
      [](const MemoryFileSystem& disk, bool crashed, int call) {
        const auto found = load_manifest(disk, "/run");
        ASSERT_TRUE(found && found->cut) << "crash at call " << call;
        EXPECT_TRUE(found->cut->step == 16 || (crashed && found->cut->step == 8));
      });
}

}  // namespace
}  // namespace lrq::io

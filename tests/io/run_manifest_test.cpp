#include "io/run_manifest.h"

#include <unistd.h>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/fakes/memory_file_system.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

RunManifest sample_manifest() {
  return {.identity = {{"seed", "2"}, {"recipe.train.wave", "8"}},
          .machine = {{"threads", "1"}},
          .about = {{"command", "lrq-dist calibrate --model \"größe\""}},
          .cut = SnapshotKey{.wave = 2, .step = 96},
          .finished = false};
}

TEST(RunManifestTest, EverythingComesBack) {
  MemoryFileSystem disk;
  EXPECT_FALSE(load_manifest(disk, "/run"));
  const RunManifest made = sample_manifest();
  save_manifest(disk, "/run", made);
  const auto found = load_manifest(disk, "/run");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->identity, made.identity);
  EXPECT_EQ(found->machine, made.machine);
  EXPECT_EQ(found->about, made.about);
  EXPECT_EQ(found->cut, made.cut);
  EXPECT_FALSE(found->finished);
  RunManifest last;
  last.finished = true;
  save_manifest(disk, "/run", last);
  EXPECT_TRUE(load_manifest(disk, "/run")->finished);
  EXPECT_FALSE(load_manifest(disk, "/run")->cut);
}

TEST(RunManifestTest, EveryFlippedByteAndEveryTruncationIsNoticed) {
  MemoryFileSystem disk;
  save_manifest(disk, "/run", sample_manifest());
  const std::string whole = disk.read("/run/run.json");
  const auto load = [&](const std::string& text) {
    disk.write("/run/run.json", std::as_bytes(std::span(text.data(), text.size())));
    return load_manifest(disk, "/run");
  };
  ASSERT_TRUE(load(whole));
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_THROW(static_cast<void>(load(whole.substr(0, i))), DataError) << i << " bytes";
    for (const int mask : {0x01, 0x02, 0x20, 0x80}) {
      std::string torn = whole;
      torn[i] = static_cast<char>(torn[i] ^ mask);
      EXPECT_THROW(static_cast<void>(load(torn)), DataError) << "byte " << i << ", mask " << mask;
    }
  }
}

TEST(RunManifestTest, TornFileIsToldWithPathAndFix) {
  MemoryFileSystem disk;
  disk.create_directories("/run");
  disk.append("/run/run.json", "{\"about\": {");
  try {
    static_cast<void>(load_manifest(disk, "/run"));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_EQ(error.text().where, "/run/run.json");
    EXPECT_NE(error.text().fix.find("--run"), std::string::npos);
  }
}

TEST(RunManifestTest, OptionThatIsNotUtf8IsAUsageError) {
  MemoryFileSystem disk;
  RunManifest manifest;
  manifest.about["command"] = "\xFF";
  EXPECT_THROW(save_manifest(disk, "/run", manifest), UsageError);
}

TEST(RunManifestTest, DifferencesNameKeyAndBothValues) {
  EXPECT_EQ(differences({{"seed", "2"}, {"wave", "8"}, {"x", "1"}}, {{"seed", "2"}, {"wave", "4"}}),
            (std::vector<std::string>{"wave: run has 8, asked 4", "x: run has 1, asked nothing"}));
  EXPECT_TRUE(differences({{"seed", "2"}}, {{"seed", "2"}}).empty());
}

TEST(RunLockTest, SecondHolderIsRefusedWithFolderAndTheFirstOnesProcess) {
  const ScratchFolder scratch;
  const std::filesystem::path run = scratch.path() / "deep" / "run";
  const RunLock held(run);
  try {
    const RunLock second(run);
    FAIL() << "nothing thrown";
  } catch (const UsageError& error) {
    EXPECT_NE(error.text().what.find(run.string()), std::string::npos);
    EXPECT_NE(error.text().what.find(concat("process ", ::getpid(), " on ")), std::string::npos);
    EXPECT_NE(error.text().fix.find("--run"), std::string::npos);
  }
}

TEST(RunLockTest, ADeadProcessHoldsNothing) {
  const ScratchFolder scratch;
  const pid_t child = ::fork();
  if (child == 0) {
    const RunLock held(scratch.path());
    ::_exit(0);  // without the destructor, as a killed process ends
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(std::filesystem::exists(scratch.path() / "lock"));
  EXPECT_NO_THROW(RunLock{scratch.path()});
}

}  // namespace
}  // namespace lrq::io

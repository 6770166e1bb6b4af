// HDF5 and the real disk against a file system that is truly full.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "io/activation_store.h"
#include "src/base/error.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
constexpr Boundary kInput{.chain = Chain::kFullPrecision, .index = BoundaryIndex{0}};

/// A file system of a megabyte in memory; needs the right to mount.
class FullDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    mounted_ = ::mount("tmpfs", disk().c_str(), "tmpfs", 0, "size=1m") == 0;
    if (!mounted_) {
      GTEST_SKIP() << "a small tmpfs cannot be mounted here (" << std::strerror(errno)
                   << "): nothing was tested on a full disk";
    }
  }
  void TearDown() override {
    if (mounted_) EXPECT_EQ(::umount(disk().c_str()), 0) << "a file is still open";
  }
  [[nodiscard]] const fs::path& disk() const { return scratch_.path(); }

  /// Take all but `bytes` of the disk.
  void leave(std::size_t bytes) {
    struct statvfs status = {};
    ASSERT_EQ(::statvfs(disk().c_str(), &status), 0);
    const std::size_t free = status.f_bavail * status.f_frsize;
    ASSERT_GE(free, bytes);
    std::ofstream(disk() / "ballast", std::ios::binary) << std::string(free - bytes, 'x');
  }

  /// Write a shard of 16 samples of 16 KiB; the text of the error, "" if there was none.
  [[nodiscard]] std::string write_shard() {
    try {
      ActivationStore store(*files_, disk() / "run", {.tokens = 64, .hidden = 64});
      const auto writer = store.create(kInput, Rank{0}, 16);
      for (int i = 0; i < 16; ++i) writer->write(i, at::ones({1, 64, 64}));
      writer->seal();
      store.write_master(16);
      return "";
    } catch (const DataError& error) {
      EXPECT_NE(error.text().where.find("run"), std::string::npos);
      EXPECT_NE(error.text().fix.find("--run"), std::string::npos) << error.text().fix;
      return error.text().what;
    }
  }

  ScratchFolder scratch_;
  std::unique_ptr<FileSystem> files_ = make_posix_file_system();
  bool mounted_ = false;
};

TEST_F(FullDiskTest, FileWriteNamesTheFullDiskAndKeepsTheOldFile) {
  write_atomically(*files_, disk() / "run.json", std::string_view("old"));
  leave(8192);
  try {
    write_atomically(*files_, disk() / "run.json", std::string(100000, 'x'));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("No space left on device"), std::string::npos);
    EXPECT_NE(error.text().fix.find("--run"), std::string::npos);
  }
  EXPECT_EQ(files_->read(disk() / "run.json"), "old");
  EXPECT_FALSE(files_->exists(disk() / "run.json.tmp"));
}

TEST_F(FullDiskTest, ShardFailsWithADataErrorHoweverMuchRoomThereIs) {
  int failed = 0;
  for (std::size_t pages = 0; pages <= 80; ++pages) {
    fs::remove(disk() / "ballast");
    fs::remove_all(disk() / "run");
    leave(pages * 4096);
    const std::string what = write_shard();
    if (what.empty()) continue;
    ++failed;
    EXPECT_NE(what.find("No space left on device"), std::string::npos) << pages << ": " << what;
    EXPECT_FALSE(fs::exists(disk() / "run" / "activations" / "fp-000.rank-0.h5.tmp")) << pages;
  }
  EXPECT_GE(failed, 64);  // 16 samples of 4 pages do not fit into fewer
  EXPECT_LE(failed, 79);
}

TEST_F(FullDiskTest, ProcessThatMetAFullDiskEndsInOrder) {
  leave(32 * 4096);
  const pid_t child = ::fork();
  if (child == 0) std::exit(write_shard().empty() ? 1 : 0);  // with HDF5's exit handlers
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace lrq::io

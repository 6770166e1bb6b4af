#include "io/file_system.h"

#include <gtest/gtest.h>

#include "tests/fakes/crashing_file_system.h"
#include "tests/fakes/full_file_system.h"
#include "tests/fakes/memory_file_system.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// What every disk has to do.
void expect_a_disk(FileSystem& files, const std::filesystem::path& root) {
  files.create_directories(root / "a" / "b");
  files.create_directories(root / "a" / "b");
  EXPECT_TRUE(files.exists(root / "a" / "b"));
  EXPECT_FALSE(files.exists(root / "a" / "x"));
  files.write(root / "a" / "x", bytes_of("first, and long"));
  files.write(root / "a" / "x", bytes_of("second"));
  EXPECT_EQ(files.read(root / "a" / "x"), "second");
  files.append(root / "a" / "x", " third");
  files.append(root / "a" / "log", "new");
  EXPECT_EQ(files.read(root / "a" / "x"), "second third");
  EXPECT_EQ(files.list(root / "a"), (std::vector<std::string>{"b", "log", "x"}));
  EXPECT_TRUE(files.list(root / "nothing").empty());
  files.sync(root / "a" / "x");
  files.sync(root / "a");
  files.rename(root / "a" / "log", root / "a" / "x");
  EXPECT_EQ(files.read(root / "a" / "x"), "new");
  files.remove(root / "a" / "x");
  files.remove(root / "a" / "x");
  EXPECT_THROW(static_cast<void>(files.read(root / "a" / "x")), DataError);
  EXPECT_THROW(files.sync(root / "a" / "x"), DataError);
  EXPECT_THROW(files.rename(root / "a" / "x", root / "a" / "y"), DataError);
  EXPECT_THROW(files.write(root / "no" / "folder", bytes_of("x")), DataError);
  files.remove(root / "a");
  EXPECT_FALSE(files.exists(root / "a" / "b"));
}

TEST(FileSystemTest, RealDiskAndDiskInMemoryBehaveAlike) {
  const ScratchFolder scratch;
  expect_a_disk(*make_posix_file_system(), scratch.path());
  MemoryFileSystem memory;
  expect_a_disk(memory, "/run");
}

TEST(FileSystemTest, MissingFileIsToldWithPathAndTheSystemsText) {
  try {
    static_cast<void>(make_posix_file_system()->read("/nowhere/at/all.json"));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_EQ(error.text().what, "cannot open all.json: No such file or directory (errno 2)");
    EXPECT_EQ(error.text().where, "/nowhere/at/all.json");
    EXPECT_FALSE(error.text().fix.empty());
  }
}

TEST(FileSystemTest, AtomicWriteLeavesTheNewFileAndNoTemporaryOne) {
  const ScratchFolder scratch;
  const auto files = make_posix_file_system();
  write_atomically(*files, scratch.path() / "f", std::string_view("old"));
  write_atomically(*files, scratch.path() / "f", std::string_view("new"));
  EXPECT_EQ(files->read(scratch.path() / "f"), "new");
  EXPECT_EQ(files->list(scratch.path()), std::vector<std::string>{"f"});
}

TEST(FileSystemTest, AtomicWriteOnAFullDiskKeepsTheOldFile) {
  MemoryFileSystem disk;
  disk.create_directories("/run");
  write_atomically(disk, "/run/f", std::string_view("old"));
  FullFileSystem full(disk, 2);
  try {
    write_atomically(full, "/run/f", std::string_view("newer"));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("No space left on device"), std::string::npos);
    EXPECT_NE(error.text().fix.find("--run"), std::string::npos);
  }
  EXPECT_EQ(disk.read("/run/f"), "old");
  EXPECT_EQ(disk.list("/run"), std::vector<std::string>{"f"});
}

TEST(MemoryFileSystemTest, PowerLossDropsWhatWasNotSynced) {
  MemoryFileSystem disk;
  disk.create_directories("/run");
  disk.write("/run/f", bytes_of("1234"));
  EXPECT_FALSE(disk.after_power_loss().exists("/run/f"));
  disk.sync("/run/f");
  EXPECT_FALSE(disk.after_power_loss().exists("/run/f"));
  disk.sync("/run");
  EXPECT_EQ(disk.after_power_loss().read("/run/f"), "1234");
  disk.write("/run/g", bytes_of("5678"));
  disk.rename("/run/g", "/run/f");
  EXPECT_EQ(disk.after_power_loss().read("/run/f"), "1234");
  EXPECT_EQ(disk.after_power_loss(PowerLoss::kKeepsRenames).read("/run/f"), "56");
}

TEST(CrashingFileSystemTest, LastCallIsHalfDoneAndLaterOnesAreNot) {
  MemoryFileSystem disk;
  disk.create_directories("/run");
  CrashingFileSystem dying(disk, 2);
  dying.write("/run/a", bytes_of("1234"));
  EXPECT_THROW(dying.write("/run/b", bytes_of("1234")), SimulatedCrash);
  EXPECT_THROW(dying.write("/run/c", bytes_of("1234")), SimulatedCrash);
  EXPECT_EQ(disk.read("/run/a"), "1234");
  EXPECT_EQ(disk.read("/run/b"), "12");
  EXPECT_FALSE(disk.exists("/run/c"));
}

}  // namespace
}  // namespace lrq::io

#include "io/safetensors_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/checkpoint_reader.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/fakes/crashing_file_system.h"
#include "tests/fakes/full_file_system.h"
#include "tests/fakes/memory_file_system.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

const std::vector<PlannedTensor> kPlan = {{"z", at::kFloat, {2}}, {"a", at::kBFloat16, {1, 3}}};

constexpr const char* kPath = "out/model.safetensors";

void write_planned(FileSystem& files, const std::filesystem::path& path) {
  SafetensorsWriter writer(files, path, kPlan, {{"format", "pt"}});
  writer.add("z", at::tensor({1.0F, -2.0F}));
  writer.add("a", at::tensor({0.5F, 1.0F, -3.0F}).view({1, 3}).to(at::kBFloat16));
  writer.finish();
}

// By hand from the format's description: length, JSON, spaces up to a multiple of 8, data.
std::string expected_bytes() {
  const std::string json = R"({"__metadata__":{"format":"pt"},)"
                           R"("z":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                           R"("a":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]}})";
  const std::size_t padded_length = (json.size() + 7) / 8 * 8;
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(padded_length);  // below 256
  bytes += json + std::string(padded_length - json.size(), ' ');
  bytes += std::string("\x00\x00\x80\x3F\x00\x00\x00\xC0", 8);  // 1, -2
  bytes += std::string("\x00\x3F\x80\x3F\x40\xC0", 6);          // 0.5, 1, -3
  return bytes;
}

TEST(SafetensorsWriterTest, WritesTheFormatByteForByte) {
  MemoryFileSystem disk;
  disk.create_directories("out");
  write_planned(disk, kPath);
  EXPECT_EQ(disk.read(kPath), expected_bytes());
  EXPECT_EQ(disk.list("out"), std::vector<std::string>{"model.safetensors"});
}

TEST(SafetensorsWriterTest, TheReaderFindsWhatWasWritten) {
  const ScratchFolder folder;
  const auto files = make_posix_file_system();
  const at::Tensor half = at::arange(12, at::kHalf).view({3, 4}).t();  // not contiguous
  SafetensorsWriter writer(*files, folder.path() / "model.safetensors",
                           {{"h", at::kHalf, {4, 3}}, {"empty", at::kFloat, {0, 5}}}, {});
  writer.add("h", half);
  writer.add("empty", at::empty({0, 5}));
  writer.finish();
  const auto reader = open_checkpoint(folder.path());
  EXPECT_EQ(reader->names(), (std::vector<std::string>{"empty", "h"}));
  EXPECT_EQ(reader->dtype("h"), at::kHalf);
  EXPECT_TRUE(at::equal(reader->read("h", {4, 3}, at::kHalf), half));
}

TEST(SafetensorsWriterTest, RefusesWhatIsNotThePlan) {
  MemoryFileSystem disk;
  const auto start = [&] { return SafetensorsWriter(disk, "model.safetensors", kPlan, {}); };
  EXPECT_THROW(start().add("a", at::zeros({1, 3}, at::kBFloat16)), BugError) << "order";
  EXPECT_THROW(start().add("z", at::zeros({3})), BugError) << "shape";
  EXPECT_THROW(start().add("z", at::zeros({2}, at::kHalf)), BugError) << "dtype";
  EXPECT_THROW(start().finish(), BugError) << "nothing was added";
  EXPECT_THROW(SafetensorsWriter(disk, "x", {kPlan[0], kPlan[0]}, {}), BugError) << "twice";
  EXPECT_THROW(SafetensorsWriter(disk, "x", {{"i", at::kInt, {1}}}, {}), BugError) << "int32";
}

TEST(SafetensorsWriterTest, AFullDiskIsADataErrorWhereverItEnds) {
  const std::size_t needed = expected_bytes().size();
  for (std::size_t room = 0; room < needed; ++room) {
    MemoryFileSystem disk;
    disk.create_directories("out");
    FullFileSystem full(disk, room);
    EXPECT_THROW(write_planned(full, kPath), DataError) << room;
    EXPECT_FALSE(disk.exists(kPath)) << room;
  }
}

TEST(SafetensorsWriterTest, ACrashLeavesTheWholeFileOrNone) {
  bool survived = false;
  for (int call = 1; !survived; ++call) {
    MemoryFileSystem disk;
    disk.create_directories("out");
    CrashingFileSystem dying(disk, call);
    try {
      write_planned(dying, kPath);
      survived = true;
    } catch (const SimulatedCrash&) {
      survived = false;
    }
    for (const PowerLoss loss : {PowerLoss::kDropsRenames, PowerLoss::kKeepsRenames}) {
      const MemoryFileSystem found = disk.after_power_loss(loss);
      if (!found.exists(kPath)) continue;
      EXPECT_EQ(found.read(kPath), expected_bytes()) << "crash at call " << call;
    }
  }
}

}  // namespace
}  // namespace lrq::io

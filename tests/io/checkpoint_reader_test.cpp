#include "io/checkpoint_reader.h"

#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/safetensors_header.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

/// The bytes of a safetensors file with this header text and this many data bytes.
std::string file_bytes(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data_bytes, '\0');
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class CheckpointReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / concat("lrq-reader-", ::getpid(), "-", info->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  /// What open_checkpoint (and `use` of the reader) complains about, as one text.
  template <typename Use>
  std::string complaint(Use use) const {
    try {
      use(*open_checkpoint(folder_));
    } catch (const DataError& error) {
      return format_error(error.text(), "test");
    }
    return "no error";
  }
  std::string complaint() const {
    return complaint([](const CheckpointReader&) {});
  }

  /// F32 [2, 3] = 0 .. 5, F16 [2] = {1.5, -2}, BF16 [1] = {3}, I64 [1] = {7}.
  void write_small_checkpoint() const {
    std::string bytes = file_bytes(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                                   R"("h":{"dtype":"F16","shape":[2],"data_offsets":[24,28]},)"
                                   R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[28,30]},)"
                                   R"("i":{"dtype":"I64","shape":[1],"data_offsets":[30,38]},)"
                                   R"("__metadata__":{"format":"pt"}})",
                                   0);
    for (int i = 0; i < 6; ++i) append(bytes, static_cast<float>(i));
    append(bytes, std::uint16_t{0x3E00});
    append(bytes, std::uint16_t{0xC000});
    append(bytes, std::uint16_t{0x4040});
    append(bytes, std::int64_t{7});
    write("model.safetensors", bytes);
  }

  template <typename Value>
  static void append(std::string& bytes, Value value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes.append(raw, sizeof value);
  }

  fs::path folder_;
};

TEST_F(CheckpointReaderTest, ReadsEveryDtypeAndConvertsIt) {
  write_small_checkpoint();
  const auto reader = open_checkpoint(folder_);
  EXPECT_EQ(reader->names(), (std::vector<std::string>{"a", "b", "h", "i"}));
  EXPECT_TRUE(reader->contains("h"));
  EXPECT_FALSE(reader->contains("__metadata__"));
  EXPECT_TRUE(
      at::equal(reader->read("a", {2, 3}, at::kFloat), at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_TRUE(
      at::equal(reader->read("a", {2, 3}, at::kDouble), at::arange(6, at::kDouble).view({2, 3})));
  const at::Tensor half = reader->read("h", {2}, at::kFloat);
  EXPECT_EQ(half[0].item<float>(), 1.5F);
  EXPECT_EQ(half[1].item<float>(), -2.0F);
  EXPECT_EQ(reader->read("b", {1}, at::kFloat).item<float>(), 3.0F);
  EXPECT_EQ(reader->read("b", {1}, at::kBFloat16).scalar_type(), at::kBFloat16);
  EXPECT_EQ(reader->read("i", {1}, at::kInt).item<int>(), 7);  // not aligned in the file
}

TEST_F(CheckpointReaderTest, TensorsAreNewAlignedAndContiguous) {
  write_small_checkpoint();
  const auto reader = open_checkpoint(folder_);
  at::Tensor first = reader->read("a", {2, 3}, at::kFloat);
  const at::Tensor second = reader->read("a", {2, 3}, at::kFloat);
  first.zero_();  // writes to nobody else's memory
  EXPECT_EQ(second.sum().item<float>(), 15.0F);
  EXPECT_TRUE(second.is_contiguous());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.data_ptr()) % 64, 0U);
}

TEST_F(CheckpointReaderTest, FingerprintChangesWithHeaderAndSize) {
  const std::string header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  write("model.safetensors", file_bytes(header, 4));
  const std::string before = open_checkpoint(folder_)->fingerprint();
  EXPECT_EQ(before.rfind("model.safetensors:", 0), 0U) << before;
  write("model.safetensors", file_bytes(header, 5));
  EXPECT_NE(open_checkpoint(folder_)->fingerprint(), before);
  write("model.safetensors",
        file_bytes(R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4));
  EXPECT_NE(open_checkpoint(folder_)->fingerprint(), before);
}

TEST_F(CheckpointReaderTest, ReadsShardsThroughTheIndex) {
  write("s1.safetensors",
        file_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4));
  write("s2.safetensors",
        file_bytes(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8));
  write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":12},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  const auto reader = open_checkpoint(folder_);
  EXPECT_EQ(reader->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(reader->read("b", {2}, at::kFloat).numel(), 2);
}

TEST_F(CheckpointReaderTest, NamesTheNearestTensorWhenOneIsMissing) {
  write("model.safetensors",
        file_bytes(R"({"model.norm.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4));
  const std::string text = complaint([](const CheckpointReader& reader) {
    (void)reader.read("model.norm.weigth", {1}, at::kFloat);
  });
  EXPECT_NE(text.find("checkpoint has no tensor model.norm.weigth"), std::string::npos) << text;
  EXPECT_NE(text.find("did you mean model.norm.weight?"), std::string::npos) << text;
}

TEST_F(CheckpointReaderTest, SaysBothShapesWhenTheyDiffer) {
  write_small_checkpoint();
  const std::string text = complaint([](const CheckpointReader& reader) {
    (void)reader.read("a", {3, 2}, at::kFloat);
  });
  EXPECT_NE(text.find("tensor has shape [2, 3], not [3, 2]"), std::string::npos) << text;
  EXPECT_NE(text.find((folder_ / "model.safetensors").string() + ", tensor a"), std::string::npos);
}

TEST_F(CheckpointReaderTest, RefusesFoldersWithoutWeightsAndBadIndexes) {
  const fs::path real = folder_;
  folder_ = real / "none";
  EXPECT_NE(complaint().find("there is no such model folder"), std::string::npos);
  folder_ = real;
  EXPECT_NE(complaint().find("the folder holds no weights: no model.safetensors"),
            std::string::npos);
  const auto with_index = [&](const std::string& index) {
    write("model.safetensors.index.json", index);
    return complaint();
  };
  EXPECT_NE(with_index("{").find("index is not JSON"), std::string::npos);
  EXPECT_NE(with_index("{}").find("index has no object \"weight_map\""), std::string::npos);
  EXPECT_NE(with_index(R"({"weight_map":{"a":3}})").find("as a tensor's file"), std::string::npos);
  EXPECT_NE(with_index(R"({"weight_map":{"a":"s1.safetensors"}})")
                .find("names the shard s1.safetensors, which is not there"),
            std::string::npos);
  EXPECT_NE(with_index(R"({"weight_map":{"a":"../x.safetensors"}})").find("not a plain file name"),
            std::string::npos);
  write("s1.safetensors", file_bytes("{}", 0));
  EXPECT_NE(with_index(R"({"weight_map":{"a":"s1.safetensors"}})")
                .find("says that s1.safetensors holds a, but it does not"),
            std::string::npos);
}

struct BrokenHeader {
  const char* header;
  std::size_t data_bytes;
  const char* says;
};

TEST_F(CheckpointReaderTest, RefusesBrokenHeadersWithTheFileAndTheReason) {
  const BrokenHeader kCases[] = {
      {"", 0, "header is not JSON"},
      {"[]", 0, "header is a JSON array, not an object"},
      {"{\"a\":", 0, "header is not JSON"},
      {"{\"\xff\":1}", 0, "header is not JSON"},
      {"[[[[[[[[[[[[]]]]]]]]]]]]", 0, "nested deeper"},
      {R"({"a":3})", 0, "entry is 3, not an object"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "entry has no \"dtype\""},
      {R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4, "dtype is F31"},
      {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, "dtype is 7, not a name"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "entry has no \"shape\""},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "shape holds -1"},
      {R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, "shape holds 1.5"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4,
       "is too large"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "go backwards: [4,0]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "not [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
       "span 4 bytes, shape [2] needs 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[99999999996,100000000000]}})", 4,
       "its header says 100000000"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       12, "tensors a and b overlap"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "header names \"a\" twice"},
      {R"({"__metadata__":[]})", 0, "__metadata__ is not an object"},
      {R"({"__metadata__":{"a":1}})", 0, "metadata a is not a string"},
  };
  for (const BrokenHeader& broken : kCases) {
    write("model.safetensors", file_bytes(broken.header, broken.data_bytes));
    const std::string text = complaint();
    EXPECT_NE(text.find(broken.says), std::string::npos) << broken.header << "\n" << text;
    EXPECT_NE(text.find((folder_ / "model.safetensors").string()), std::string::npos) << text;
    EXPECT_NE(text.find("fix:"), std::string::npos) << text;
  }
}

TEST_F(CheckpointReaderTest, RefusesFilesThatAreShorterThanTheySay) {
  write("model.safetensors", "abc");
  EXPECT_NE(complaint().find("file is 3 bytes, a safetensors file has at least 8"),
            std::string::npos);
  write("model.safetensors", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8));
  EXPECT_NE(complaint().find("header length is 9223372036854775807 bytes"), std::string::npos);
  write("model.safetensors", std::string("\x64\0\0\0\0\0\0\0{}", 10));
  EXPECT_NE(complaint().find("file is 10 bytes, its header alone needs 108"), std::string::npos);
  const std::string header = R"({"a":{"dtype":"F32","shape":[10],"data_offsets":[0,40]}})";
  write("model.safetensors", file_bytes(header, 20));
  EXPECT_NE(complaint().find(concat("file is ", 8 + header.size() + 20, " bytes, its header says ",
                                    8 + header.size() + 40, " are needed")),
            std::string::npos)
      << complaint();
}

TEST(SafetensorsHeaderTest, AnyFlippedByteIsReadOrRefusedButNeverMore) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
  const std::string good = file_bytes(header, 32);
  std::mt19937 random(20240613);
  int accepted = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = good;
    const int flips = 1 + static_cast<int>(random() % 3);
    for (int flip = 0; flip < flips; ++flip) {
      bytes[random() % (8 + header.size())] ^= static_cast<char>(1U << (random() % 8));
    }
    try {
      const SafetensorsHeader parsed = parse_safetensors_header(as_bytes(bytes), "flipped");
      for (const auto& [name, entry] : parsed.tensors) {
        EXPECT_LE(entry.begin, entry.end);
        EXPECT_LE(entry.end, bytes.size());
      }
      ++accepted;
    } catch (const DataError& error) {
      EXPECT_NE(error.text().where.find("flipped"), std::string::npos);
    }
  }
  EXPECT_GT(accepted, 0);  // a flipped letter of a name is still a header
  EXPECT_LT(accepted, 2000);
}

}  // namespace
}  // namespace lrq::io

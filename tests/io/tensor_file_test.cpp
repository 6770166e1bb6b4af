#include "io/tensor_file.h"

#include <cstring>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/fakes/memory_file_system.h"

namespace lrq::io {
namespace {

const std::filesystem::path kFile = "/run/f.safetensors";

MemoryFileSystem disk_with(const TensorFile& content) {
  MemoryFileSystem disk;
  disk.create_directories("/run");
  save_tensor_file(disk, kFile, content);
  return disk;
}

void overwrite(MemoryFileSystem& disk, const std::string& bytes) {
  disk.write(kFile, std::as_bytes(std::span(bytes.data(), bytes.size())));
}

TensorFile small_file() {
  return {.tensors = {{"b", at::arange(3, at::kFloat)}, {"a", at::tensor({7L, -1L})}},
          .metadata = {{"format", "lrq block 1"}, {"bits", "4"}}};
}

TEST(TensorFileTest, BytesAreThoseOfTheSafetensorsFormat) {
  const std::string bytes = disk_with(small_file()).read(kFile);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  ASSERT_EQ(length % 8, 0U);
  ASSERT_EQ(bytes.size(), 8 + length + 16 + 12);
  std::string header = bytes.substr(8, length);
  const std::size_t crc = header.find("crc32c\":\"");
  ASSERT_NE(crc, std::string::npos);
  header.replace(crc + 9, 8, "########");
  EXPECT_EQ(header.substr(0, header.find_last_not_of(' ') + 1),
            R"({"__metadata__":{"bits":"4","crc32c":"########","format":"lrq block 1"},)"
            R"("a":{"data_offsets":[0,16],"dtype":"I64","shape":[2]},)"
            R"("b":{"data_offsets":[16,28],"dtype":"F32","shape":[3]}})");
  float last = 0;
  std::memcpy(&last, bytes.data() + bytes.size() - 4, 4);
  EXPECT_EQ(last, 2.0F);
}

TEST(TensorFileTest, EveryDtypeAndShapeComesBackBitForBit) {
  TensorFile content;
  content.metadata = {{"quote \" and \\", "line\nbreak, \"crc32c\":\"00000000\""}};
  content.tensors = {{"float32", at::randn({2, 3})},
                     {"float64", at::randn({4}, at::kDouble)},
                     {"bfloat16", at::randn({3, 5}).to(at::kBFloat16)},
                     {"int32", at::arange(5, at::kInt)},
                     {"int64", at::arange(5, at::kLong)},
                     {"uint8", at::arange(7, at::kByte)},
                     {"nan", at::full({1}, NAN)},
                     {"scalar", at::full({}, 2.5)},
                     {"empty", at::empty({0, 4})},
                     {"strided", at::arange(6, at::kFloat).view({2, 3}).t()}};
  const TensorFile found = load_tensor_file(disk_with(content), kFile);
  EXPECT_EQ(found.metadata, content.metadata);
  ASSERT_EQ(found.tensors.size(), content.tensors.size());
  for (const auto& [name, tensor] : content.tensors) {
    const at::Tensor& other = found.tensors.at(name);
    ASSERT_EQ(other.sizes(), tensor.sizes()) << name;
    ASSERT_EQ(other.scalar_type(), tensor.scalar_type()) << name;
    const at::Tensor dense = tensor.contiguous();
    if (dense.nbytes() == 0) continue;
    EXPECT_EQ(std::memcmp(other.const_data_ptr(), dense.const_data_ptr(), dense.nbytes()), 0)
        << name;
  }
}

TEST(TensorFileTest, EqualContentIsEqualBytes) {
  TensorFile content = small_file();
  const std::string first = disk_with(content).read(kFile);
  content.tensors["b"] = at::tensor({0.0F, 9.0F, 1.0F, 9.0F, 2.0F}).slice(0, 0, 5, 2);
  EXPECT_EQ(disk_with(content).read(kFile), first);
}

TEST(TensorFileTest, EveryFlippedByteIsNoticed) {
  MemoryFileSystem disk = disk_with(small_file());
  const std::string whole = disk.read(kFile);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int mask : {0x01, 0x20, 0x80, 0xFF}) {
      std::string torn = whole;
      torn[i] = static_cast<char>(torn[i] ^ mask);
      overwrite(disk, torn);
      EXPECT_THROW(static_cast<void>(load_tensor_file(disk, kFile)), DataError)
          << "byte " << i << ", mask " << mask;
    }
  }
}

TEST(TensorFileTest, EveryTruncationIsNoticed) {
  MemoryFileSystem disk = disk_with(small_file());
  const std::string whole = disk.read(kFile);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    overwrite(disk, whole.substr(0, i));
    EXPECT_THROW(static_cast<void>(load_tensor_file(disk, kFile)), DataError) << i << " bytes";
  }
  overwrite(disk, whole + '\0');
  EXPECT_THROW(static_cast<void>(load_tensor_file(disk, kFile)), DataError);
}

TEST(TensorFileTest, TornFileIsToldWithBothChecksumsPathAndFix) {
  MemoryFileSystem disk = disk_with(small_file());
  std::string torn = disk.read(kFile);
  torn.back() = '\x7F';
  overwrite(disk, torn);
  try {
    static_cast<void>(load_tensor_file(disk, kFile));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("its CRC32C is "), std::string::npos);
    EXPECT_NE(error.text().where.find(kFile.string()), std::string::npos);
    EXPECT_NE(error.text().fix.find("--resume"), std::string::npos);
  }
}

}  // namespace
}  // namespace lrq::io

// Reads what we write as io/FORMATS.md says, with plain HDF5 calls and none of our reading code.
#include <array>
#include <hdf5.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/activation_store.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

/// CRC32C bit by bit, from its definition.
std::uint32_t plain_crc32c(const void* data, std::size_t bytes) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (std::size_t i = 0; i < bytes; ++i) {
    crc ^= static_cast<const unsigned char*>(data)[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) * 0x82F63B78U);
  }
  return crc ^ 0xFFFFFFFFU;
}

std::vector<hsize_t> extent(hid_t dataset) {
  const hid_t space = H5Dget_space(dataset);
  std::vector<hsize_t> lengths(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, lengths.data(), nullptr);
  H5Sclose(space);
  return lengths;
}

TEST(FormatsTest, PlainHdf5ReadsAShardOfBfloat16) {
  const ScratchFolder scratch;
  const auto files = make_posix_file_system();
  ActivationStore store(*files, scratch.path(), {.tokens = 2, .hidden = 3, .dtype = at::kBFloat16});
  const Boundary boundary{.chain = Chain::kFullPrecision, .index = BoundaryIndex{7}};
  // bfloat16 is the upper half of a float32: 1.0 is 0x3F80, -2.0 0xC000, 0.5 0x3F00, 3.140625
  // 0x4049.
  const at::Tensor values = at::tensor({1.0, -2.0, 0.5, 3.140625, 0.0, 1.0}, at::kBFloat16);
  const std::array<std::uint16_t, 6> bits = {0x3F80, 0xC000, 0x3F00, 0x4049, 0x0000, 0x3F80};
  const auto writer = store.create(boundary, Rank{3}, 2);
  writer->write(5, values.view({2, 3}));
  writer->write(1, at::zeros({2, 3}, at::kBFloat16));
  writer->seal();

  const auto path = scratch.path() / "activations" / "fp-007.rank-3.h5";
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t samples = H5Dopen2(file, "/samples", H5P_DEFAULT);
  const hid_t numbers = H5Dopen2(file, "/sample", H5P_DEFAULT);
  const hid_t checksums = H5Dopen2(file, "/crc32c", H5P_DEFAULT);
  EXPECT_EQ(extent(samples), (std::vector<hsize_t>{2, 2, 3}));
  EXPECT_EQ(extent(numbers), std::vector<hsize_t>{2});
  EXPECT_EQ(extent(checksums), std::vector<hsize_t>{2});

  const hid_t type = H5Dget_type(samples);
  std::array<std::size_t, 5> fields{};
  H5Tget_fields(type, &fields[0], &fields[1], &fields[2], &fields[3], &fields[4]);
  EXPECT_EQ(H5Tget_class(type), H5T_FLOAT);
  EXPECT_EQ(H5Tget_size(type), 2U);
  EXPECT_EQ(H5Tget_order(type), H5T_ORDER_LE);
  EXPECT_EQ(H5Tget_ebias(type), 127U);
  EXPECT_EQ(fields, (std::array<std::size_t, 5>{15, 7, 8, 0, 7}));  // sign, exponent, mantissa

  std::array<std::array<std::uint16_t, 6>, 2> raw{};
  std::array<std::array<float, 6>, 2> floats{};
  std::array<std::int32_t, 2> order{};
  std::array<std::uint32_t, 2> crcs{};
  EXPECT_GE(H5Dread(samples, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw.data()), 0);
  EXPECT_GE(H5Dread(samples, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, floats.data()), 0);
  EXPECT_GE(H5Dread(numbers, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, order.data()), 0);
  EXPECT_GE(H5Dread(checksums, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, crcs.data()), 0);
  EXPECT_EQ(raw[0], bits);
  EXPECT_EQ(floats[0], (std::array<float, 6>{1.0F, -2.0F, 0.5F, 3.140625F, 0.0F, 1.0F}));
  EXPECT_EQ(order, (std::array<std::int32_t, 2>{5, 1}));
  EXPECT_EQ(crcs[0], plain_crc32c(bits.data(), sizeof(bits)));
  EXPECT_EQ(crcs[1], plain_crc32c(std::array<char, 12>{}.data(), 12));

  H5Tclose(type);
  for (const hid_t dataset : {samples, numbers, checksums}) H5Dclose(dataset);
  H5Fclose(file);
}

}  // namespace
}  // namespace lrq::io

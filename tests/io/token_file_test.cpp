#include "io/token_file.h"

#include <cstring>
#include <fstream>
#include <hdf5.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

class TokenFileTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_.path() / name, std::ios::binary) << content;
    return folder_.path() / name;
  }
  static std::string complaint(const std::filesystem::path& path) {
    try {
      (void)read_token_file(path, 100);
    } catch (const Error& error) {
      EXPECT_NE(error.text().where.find(path.string()), std::string::npos);
      return format_error(error.text(), "test");
    }
    return "no error";
  }
  /// A .npy file as numpy 1.26 writes it, with this description and these data bytes.
  static std::string npy(const std::string& header, const std::string& data) {
    const auto length = static_cast<std::uint16_t>(header.size());
    std::string out("\x93NUMPY\x01\x00", 8);
    out.append(reinterpret_cast<const char*>(&length), 2);
    return out + header + data;
  }

  ScratchFolder folder_;
  std::unique_ptr<FileSystem> files_ = make_posix_file_system();
};

TEST_F(TokenFileTest, EndingsSayWhatATokenFileIs) {
  EXPECT_TRUE(is_token_file("a/b.h5"));
  EXPECT_TRUE(is_token_file("b.npy"));
  EXPECT_TRUE(is_token_file("b.bin"));
  EXPECT_FALSE(is_token_file("b.txt"));
}

TEST_F(TokenFileTest, WhatWasWrittenIsReadBack) {
  const at::Tensor rows = at::arange(12, at::kInt).view({3, 4});
  for (const char* name : {"a.h5", "a.npy"}) {
    const auto path = folder_.path() / name;
    for (const at::Tensor& ids : {rows, rows.view({12})}) {
      write_token_file(*files_, path, ids);
      const at::Tensor read = read_token_file(path, 12);
      EXPECT_EQ(read.scalar_type(), at::kInt);
      EXPECT_TRUE(at::equal(read, ids)) << name;
    }
  }
  EXPECT_EQ(files_->list(folder_.path()), (std::vector<std::string>{"a.h5", "a.npy"}));
}

TEST_F(TokenFileTest, ReadsEveryIntegerOfNumpy) {
  const std::string tail = ", 'fortran_order': False, 'shape': (2,), }\n";
  const auto ids = [&](const std::string& descr, const std::string& data) {
    const at::Tensor read =
        read_token_file(write("a.npy", npy("{'descr': '" + descr + "'" + tail, data)), 70000);
    EXPECT_EQ(read.numel(), 2);
    return read[1].item<int>();
  };
  EXPECT_EQ(ids("<i2", std::string("\1\0\2\1", 4)), 258);
  EXPECT_EQ(ids("<u2", std::string("\1\0\xff\xff", 4)), 65535);
  EXPECT_EQ(ids("<i4", std::string("\1\0\0\0\3\0\1\0", 8)), 65539);
  EXPECT_EQ(ids("<u4", std::string("\1\0\0\0\3\0\1\0", 8)), 65539);
  EXPECT_EQ(ids("<i8", std::string("\1\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0", 16)), 4);
}

TEST_F(TokenFileTest, RefusesArraysThatAreNoTokens) {
  const auto says = [&](const std::string& header, const std::string& data, const char* text) {
    const std::string found = complaint(write("a.npy", npy(header, data)));
    EXPECT_NE(found.find(text), std::string::npos) << found;
  };
  says("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "abcd", "of type '<f4'");
  says("{'descr': '>i4', 'fortran_order': False, 'shape': (1,), }", "abcd", "of type '>i4'");
  says("{'descr': '<i4', 'fortran_order': True, 'shape': (1,), }", "abcd", "Fortran order");
  says("{'descr': '<i4', 'fortran_order': False, 'shape': (), }", "abcd", "array has 0 axes");
  says("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 1), }", "abcd", "has 3 axes");
  says("{'descr': '<i4', 'fortran_order': False, 'shape': (-1,), }", "abcd", "cannot be");
  says("{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }", "abcd", "needs 8");
  says("{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904,), }", "abcd",
       "far more");
  says("{'fortran_order': False, 'shape': (1,), }", "abcd", "header has no 'descr'");
  EXPECT_NE(complaint(write("b.npy", "hello")).find("no .npy file"), std::string::npos);
  EXPECT_NE(complaint(write("c.npy", std::string("\x93NUMPY\x01\x00\xff\x00{}", 12)))
                .find("its header alone needs 265"),
            std::string::npos);
  EXPECT_NE(complaint(write("d.txt", "")).find("ends in \".txt\""), std::string::npos);
  EXPECT_NE(complaint(folder_.path() / "none.npy").find("cannot read the file"), std::string::npos);
}

TEST_F(TokenFileTest, RawFilesAreInt32) {
  const at::Tensor read = read_token_file(write("a.bin", std::string("\1\0\0\0\3\1\0\0", 8)), 1000);
  EXPECT_TRUE(at::equal(read, at::tensor({1, 259}, at::kInt)));
  EXPECT_NE(complaint(write("a.bin", "abcde")).find("file is 5 bytes"), std::string::npos);
}

TEST_F(TokenFileTest, NamesTheFirstIdOutOfRange) {
  const auto path = folder_.path() / "a.npy";
  write_token_file(*files_, path, at::tensor({1, 2, 3, 100}, at::kInt).view({2, 2}));
  const std::string text = complaint(path);
  EXPECT_NE(text.find("token id is 100, not from 0 to 99"), std::string::npos) << text;
  EXPECT_NE(text.find("row 1, place 1"), std::string::npos) << text;
  write_token_file(*files_, path, at::tensor({1, -2}, at::kInt));
  EXPECT_NE(complaint(path).find("token id is -2"), std::string::npos);
}

/// Write one dataset with plain HDF5 calls.
void write_h5(const std::filesystem::path& path, const char* name, hid_t type,
              const std::vector<hsize_t>& extent, const void* data) {
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr);
  const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
  H5Dclose(set);
  H5Sclose(space);
  H5Fclose(file);
}

TEST_F(TokenFileTest, ReadsTheOnlyDatasetOfAForeignFile) {
  const auto path = folder_.path() / "a.h5";
  const std::uint16_t ids[] = {5, 6, 7, 8};
  write_h5(path, "whatever", H5T_NATIVE_UINT16, {2, 2}, ids);
  EXPECT_TRUE(
      at::equal(read_token_file(path, 10), at::tensor({5, 6, 7, 8}, at::kInt).view({2, 2})));
  const float floats[] = {5, 6, 7, 8};
  write_h5(path, "tokens", H5T_NATIVE_FLOAT, {4}, floats);
  EXPECT_NE(complaint(path).find("does not hold integers"), std::string::npos);
  write_h5(path, "tokens", H5T_NATIVE_UINT16, {1, 2, 2}, ids);
  EXPECT_NE(complaint(path).find("dataset has 3 axes"), std::string::npos);
  EXPECT_NE(complaint(write("b.h5", "no HDF5 at all")).find("HDF5 says"), std::string::npos);
}

TEST_F(TokenFileTest, ADamagedFileOfOursIsRefused) {
  const auto path = folder_.path() / "a.h5";
  write_token_file(*files_, path, at::full({64}, 0x41424344, at::kInt));
  std::string bytes = files_->read(path);
  const std::size_t at = bytes.find("DCBADCBA");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 'E';
  try {
    (void)read_token_file(write("b.h5", bytes), 0x7fffffff);
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("checksum of the ids"), std::string::npos);
  }
}

TEST_F(TokenFileTest, EqualIdsAreEqualBytes) {
  for (const char* name : {"a.h5", "a.npy"}) {
    const auto path = folder_.path() / name;
    write_token_file(*files_, path, at::arange(5, at::kInt));
    const std::string first = files_->read(path);
    write_token_file(*files_, path, at::arange(5, at::kInt));
    EXPECT_EQ(files_->read(path), first) << name;
  }
}

}  // namespace
}  // namespace lrq::io

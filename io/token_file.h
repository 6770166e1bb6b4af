#pragma once

#include <filesystem>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"

namespace lrq::io {

/// True if the file's name ends in .h5, .hdf5, .npy or .bin.
[[nodiscard]] bool is_token_file(const std::filesystem::path& path);

/// Read token ids.  .h5: dataset /tokens, or the only dataset; .npy: an integer array, C order;
/// .bin: raw little-endian int32, 1-D.  Returns int32 [n] (a stream) or [n, t] (one sample a row).
/// Throws DataError: not of that format, not integers, more than two axes, ids below 0 or not below
/// vocab_size (with the first place).
[[nodiscard]] at::Tensor read_token_file(const std::filesystem::path& path,
                                         std::int64_t vocab_size);

/// Write int32 ids [n] or [n, t] atomically as HDF5 dataset /tokens (with attribute crc32c) or
/// .npy, by the file's name.
void write_token_file(FileSystem& files, const std::filesystem::path& path,
                      const at::Tensor& tokens);

/// "32 x 256, crc32c 123": what tells two sets of windows [n, t] int32 apart.
[[nodiscard]] std::string tokens_fingerprint(const at::Tensor& windows);

}  // namespace lrq::io

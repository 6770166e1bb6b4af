#pragma once

#include <filesystem>
#include <string>

#include <ATen/core/Tensor.h>

namespace lrq::io {

/// Each reads the integers of one file format as int64 [n] or [n, t], whatever their width in the
/// file.  Throws DataError: not of that format, not integers, more than two axes.
[[nodiscard]] at::Tensor read_tokens_h5(const std::filesystem::path& path);
[[nodiscard]] at::Tensor read_tokens_npy(const std::filesystem::path& path);
[[nodiscard]] at::Tensor read_tokens_bin(const std::filesystem::path& path);

/// Write tokens int32 [n] or [n, t] as HDF5 dataset /tokens with attribute crc32c, straight to
/// `path`; the caller gives the file its final name.
void write_tokens_h5(const std::filesystem::path& path, const at::Tensor& tokens);
/// The bytes of a .npy file (version 1.0) of these tokens.
[[nodiscard]] std::string tokens_as_npy(const at::Tensor& tokens);

}  // namespace lrq::io

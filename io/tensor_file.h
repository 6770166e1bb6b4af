#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"

namespace lrq::io {

using NamedTensors = std::map<std::string, at::Tensor>;

/// One safetensors file of ours: tensors in name order, metadata in key order, a CRC32C over both
/// in metadata "crc32c" (FORMATS.md).  Equal content is equal bytes.
struct TensorFile {
  NamedTensors tensors;                         ///< float32, float64, bfloat16, int32, int64, uint8
  std::map<std::string, std::string> metadata;  ///< without "crc32c"
};

/// Write atomically and durably.  Throws DataError.
void save_tensor_file(FileSystem& files, const std::filesystem::path& path,
                      const TensorFile& content);

/// Read and verify.  Throws DataError: missing, truncated, torn, or a checksum that does not match.
[[nodiscard]] TensorFile load_tensor_file(const FileSystem& files,
                                          const std::filesystem::path& path);

}  // namespace lrq::io

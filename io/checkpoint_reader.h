#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace lrq::io {

/// Give the tensors of a model folder by name.  Files are mapped, and only what is asked for is
/// touched.  Throws DataError: a missing file, a header that is not JSON or points past the end of
/// the file, overlapping or misordered offsets, an unsupported dtype, an index that names a file or
/// tensor that is not there - each with the value found, the value expected and the file.
class CheckpointReader {
 public:
  virtual ~CheckpointReader() = default;
  [[nodiscard]] virtual bool contains(const std::string& name) const = 0;
  [[nodiscard]] virtual std::vector<std::string> names() const = 0;
  /// The dtype in which the tensor is stored.  Throws DataError if it is missing.
  [[nodiscard]] virtual at::ScalarType dtype(const std::string& name) const = 0;
  /// Throws DataError as read() does, without touching the tensor's bytes.
  virtual void check(const std::string& name, const std::vector<std::int64_t>& shape) const = 0;
  /// Copy the tensor, newly allocated on the CPU, converted to `dtype`.  Throws DataError if it is
  /// missing (with the nearest name) or its shape is not `shape`.
  [[nodiscard]] virtual at::Tensor read(const std::string& name,
                                        const std::vector<std::int64_t>& shape,
                                        at::ScalarType dtype) const = 0;
  /// A text that changes when headers or file sizes change: CRC32C of each header and each size.
  [[nodiscard]] virtual std::string fingerprint() const = 0;
};

/// Open a folder that holds model.safetensors, or model.safetensors.index.json and its shards.
[[nodiscard]] std::unique_ptr<CheckpointReader> open_checkpoint(
    const std::filesystem::path& folder);

}  // namespace lrq::io

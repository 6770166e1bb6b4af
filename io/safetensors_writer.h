#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"

namespace lrq::io {

/// A tensor that a file is going to hold.
struct PlannedTensor {
  std::string name;
  at::ScalarType dtype = at::kFloat;  ///< float32, float16 or bfloat16
  std::vector<std::int64_t> shape;
  [[nodiscard]] std::size_t bytes() const;
};

/// Write one safetensors file tensor by tensor, so that memory never holds more than one: the
/// header, which needs only names, dtypes and shapes, goes first.  The data follows in the order
/// planned, without gaps, and begins at a multiple of 8.  Equal content is equal bytes.
/// The file has its temporary name until finish(); one that is never finished is no file.
/// Source: github.com/huggingface/safetensors, "Format".
class SafetensorsWriter {
 public:
  /// Throws DataError (full disk, missing right); BugError: a name twice, another dtype.
  SafetensorsWriter(FileSystem& files, std::filesystem::path path, std::vector<PlannedTensor> plan,
                    const std::map<std::string, std::string>& metadata);

  /// The next tensor of the plan: contiguous or not, on the CPU, of the planned dtype and shape.
  /// Throws DataError (full disk); BugError if it is not the planned one.
  void add(const std::string& name, const at::Tensor& tensor);
  /// Sync, and give the file its name.  Throws DataError; BugError if a tensor is missing.
  void finish();

 private:
  FileSystem& files_;  // Owns: borrowed from the command
  std::filesystem::path path_;
  std::vector<PlannedTensor> plan_;
  std::size_t next_ = 0;
};

}  // namespace lrq::io

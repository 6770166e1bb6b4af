#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace lrq::models {

/// A safetensors file in memory, float32, float64 and int64 tensors as they are.
struct GoldenFile {
  std::string path;
  std::map<std::string, std::string> metadata;
  std::map<std::string, at::Tensor> tensors;

  [[nodiscard]] bool has(const std::string& name) const { return tensors.contains(name); }
  /// Throw DataError naming the tensor or the setting that is missing.
  [[nodiscard]] const at::Tensor& tensor(const std::string& name) const;
  [[nodiscard]] const std::string& setting(const std::string& name) const;
};

/// Read a whole file.  Independent of the product's own reader.  Throws DataError.
[[nodiscard]] GoldenFile read_golden_file(const std::string& path);

/// Read a text file whole.  Throws DataError.
[[nodiscard]] std::string read_text(const std::string& path);

}  // namespace lrq::models

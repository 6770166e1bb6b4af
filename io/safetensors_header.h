#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace lrq::io {

/// A safetensors file starts with the length of its header's JSON text in so many bytes.
inline constexpr std::size_t kSafetensorsLengthBytes = 8;

/// The element type that headers call so; nothing: none that is read.
[[nodiscard]] std::optional<at::ScalarType> safetensors_dtype(std::string_view name);
/// The reverse.  Throws BugError: a dtype without a name.
[[nodiscard]] std::string_view safetensors_name(at::ScalarType dtype);

/// One tensor of a safetensors file.
struct SafetensorsEntry {
  at::ScalarType dtype = at::kFloat;
  std::vector<std::int64_t> shape = {};
  std::size_t begin = 0;  ///< first byte, counted from the start of the file
  std::size_t end = 0;    ///< one past the last byte
};

/// The checked header of a safetensors file.
struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors = {};
  std::map<std::string, std::string> metadata = {};
  std::size_t bytes = 0;  ///< of the length and the JSON text: where the data starts
};

/// Parse and check the header of the safetensors file whose bytes are `file`; only the header's
/// bytes are touched.  `path` is for messages.
/// Source: github.com/huggingface/safetensors, "Format".  Differs: unused bytes between tensors or
/// after the last are accepted, as they cannot change a result; overlaps are not.
/// Throws DataError: a header that is longer than the file or than 100 MB, is not JSON, names a
/// tensor twice, or has a dtype, shape or offset that cannot be.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                         const std::filesystem::path& path);

}  // namespace lrq::io

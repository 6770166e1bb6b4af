#pragma once

#include <filesystem>
#include <string>

namespace lrq::io {

/// Tell in lines of text what a file holds: tensors or datasets with dtype and shape, metadata, and
/// whether its checksum holds.  Reads safetensors (ours and others'), HDF5 (tokens, shards, master)
/// and run.json.  Throws DataError: no such file, a kind that is not known, a file that is broken.
[[nodiscard]] std::string describe_file(const std::filesystem::path& path);

}  // namespace lrq::io

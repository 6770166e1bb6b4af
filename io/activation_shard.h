#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "io/activation_store.h"
#include "io/h5_handle.h"

namespace lrq::io {

/// The HDF5 type in which a sample is stored: IEEE float32 or bfloat16, both little-endian.
[[nodiscard]] H5Handle h5_sample_type(at::ScalarType dtype);

/// One sealed shard, open for reading.  Throws DataError.  Threads: any may read.
class ShardReader {
 public:
  /// Open and check shape and dtype; the numbers and checksums of the samples are read at once.
  ShardReader(const std::filesystem::path& path, const SampleShape& shape);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Row -> number of the sample in the run.
  [[nodiscard]] const std::vector<std::int32_t>& samples() const { return samples_; }
  /// Newly allocated [1, T, C].  Throws DataError if its CRC32C differs.
  [[nodiscard]] at::Tensor read(std::size_t row) const;

 private:
  void check_shape();
  template <typename T>
  [[nodiscard]] std::vector<T> read_list(const char* dataset, H5Id memory_type) const;

  std::filesystem::path path_;
  SampleShape shape_;
  H5Handle file_;
  H5Handle type_;
  H5Handle data_;
  H5Handle space_;
  std::int64_t rows_ = 0;
  std::vector<std::int32_t> samples_;
  std::vector<std::uint32_t> checksums_;
};

/// Start a shard under a temporary name beside `path`, which seal() gives it.
[[nodiscard]] std::unique_ptr<ShardWriter> make_shard_writer(FileSystem& files,
                                                             const std::filesystem::path& path,
                                                             const SampleShape& shape,
                                                             std::int64_t samples);

/// Write the virtual dataset `name` ("/fp/000") [N, T, C] over the shards, by paths relative to the
/// folder `run`.  A sample that no shard holds reads as NaN.
void write_virtual_dataset(const H5OutputFile& master, const std::string& name,
                           const std::filesystem::path& run, const std::vector<ShardReader>& shards,
                           const SampleShape& shape, std::int64_t samples);

}  // namespace lrq::io

#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"
#include "src/base/ids.h"

namespace lrq::io {

/// Which chain a boundary tensor belongs to.
enum class Chain { kFullPrecision, kQuantized };

/// All samples of one boundary of one chain.
struct Boundary {
  Chain chain = Chain::kFullPrecision;
  BoundaryIndex index;
  auto operator<=>(const Boundary&) const = default;
};
/// "fp-017" or "q-017".
[[nodiscard]] std::string boundary_name(const Boundary& boundary);

struct SampleShape {
  std::int64_t tokens = 0;
  std::int64_t hidden = 0;
  at::ScalarType dtype = at::kFloat;  ///< float32 or bfloat16; HDF5 never converts
};

/// Write one rank's share of one boundary: <run>/activations/<name>.rank-<r>.h5 with
/// /samples [n, T, C], /sample [n] int32 (its number in the run), /crc32c [n] uint32.
/// Under a temporary name until seal(); an unsealed shard is removed by the destructor.
/// Threads: one at a time.  Throws DataError (path, dataset, HDF5's own error stack).
class ShardWriter {
 public:
  virtual ~ShardWriter() = default;
  /// activation [1, T, C] or [T, C] of the shape's dtype, contiguous, on the CPU.
  virtual void write(std::int64_t sample, const at::Tensor& activation) = 0;
  /// Close, sync, give it its final name.
  virtual void seal() = 0;
};

/// Read the samples of one boundary from all its sealed shards.  Threads: any (HDF5 lets one in).
class BoundaryReader {
 public:
  virtual ~BoundaryReader() = default;
  /// Newly allocated [1, T, C].  Throws DataError if the sample is missing or its CRC32C differs.
  [[nodiscard]] virtual at::Tensor read(std::int64_t sample) const = 0;
};

/// The activations of a run.  A reader opens shards only after their sealing was announced.
class ActivationStore {
 public:
  ActivationStore(FileSystem& files, std::filesystem::path run, SampleShape shape);
  ~ActivationStore();
  ActivationStore(const ActivationStore&) = delete;
  ActivationStore& operator=(const ActivationStore&) = delete;

  /// samples: how many the shard will hold.
  [[nodiscard]] std::unique_ptr<ShardWriter> create(const Boundary& boundary, Rank rank,
                                                    std::int64_t samples);
  /// Throws DataError if the sealed shards do not hold exactly the samples 0 .. samples-1.
  [[nodiscard]] std::unique_ptr<BoundaryReader> open(const Boundary& boundary,
                                                     std::int64_t samples) const;
  /// True if the sealed shards hold exactly those samples, of this shape, each with its CRC32C.
  [[nodiscard]] bool complete(const Boundary& boundary, std::int64_t samples) const;
  /// Remove all shards of the boundary, sealed or not.
  void remove(const Boundary& boundary);
  /// Write <run>/activations.h5: one virtual dataset [N, T, C] per boundary whose shards are whole
  /// ("/fp/000", "/q/008", ...), in sample order, over all its shards, by relative paths.
  void write_master(std::int64_t samples);

 private:
  FileSystem& files_;  // Owns: borrowed from main for the life of the run
  std::filesystem::path run_;
  SampleShape shape_;
};

}  // namespace lrq::io

#pragma once

#include <filesystem>

#include "io/tensor_file.h"
#include "src/base/ids.h"

namespace lrq::io {

/// A resume point inside a wave: after step `step` of wave `wave`.
struct SnapshotKey {
  int wave = 0;
  std::int64_t step = 0;
  auto operator<=>(const SnapshotKey&) const = default;
};

/// Paths and durable files of block states, statistics and snapshots in a run directory:
///   blocks/block-017.safetensors   stats/block-017.safetensors   stats/maps-017.safetensors
///   snapshots/wave-02/step-00096/block-017.safetensors
///   snapshots/wave-02/epoch-003/block-017.safetensors  (candidates of train.keep_best)
/// Throws DataError.  Threads: any, one per file.
class BlockStateStore {
 public:
  BlockStateStore(FileSystem& files, std::filesystem::path run);

  void save_block(BlockIndex block, const TensorFile& state);
  [[nodiscard]] TensorFile load_block(BlockIndex block) const;
  void save_statistics(BlockIndex block, const TensorFile& statistics);
  [[nodiscard]] TensorFile load_statistics(BlockIndex block) const;
  /// Changes of basis that a block starts from.
  void save_maps(BlockIndex block, const TensorFile& maps);
  [[nodiscard]] TensorFile load_maps(BlockIndex block) const;
  void save_snapshot(const SnapshotKey& key, BlockIndex block, const TensorFile& state);
  [[nodiscard]] TensorFile load_snapshot(const SnapshotKey& key, BlockIndex block) const;

  /// A block's learnables at the end of an epoch (1 ..) of a wave.
  void save_candidate(int wave, int epoch, BlockIndex block, const TensorFile& learnables);
  [[nodiscard]] TensorFile load_candidate(int wave, int epoch, BlockIndex block) const;

  /// True if the file is there and whole (checksum read).
  [[nodiscard]] bool has_block(BlockIndex block) const;
  [[nodiscard]] bool has_statistics(BlockIndex block) const;
  [[nodiscard]] bool has_maps(BlockIndex block) const;
  [[nodiscard]] bool has_snapshot(const SnapshotKey& key, BlockIndex block) const;

  /// Remove one snapshot, of all blocks.  Newer ones may be in the making on other ranks.
  void remove_snapshot(const SnapshotKey& key);
  /// Remove every snapshot and candidate of waves 0 .. last_wave.
  void remove_snapshots_through(int last_wave);

 private:
  FileSystem& files_;  // Owns: borrowed from main for the life of the run
  std::filesystem::path run_;
};

}  // namespace lrq::io

#include "io/block_state_store.h"

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

std::string file_name(BlockIndex block) {
  return concat("block-", padded(block.value, 3), ".safetensors");
}
fs::path block_path(const fs::path& run, BlockIndex block) {
  return run / "blocks" / file_name(block);
}
fs::path statistics_path(const fs::path& run, BlockIndex block) {
  return run / "stats" / file_name(block);
}
fs::path maps_path(const fs::path& run, BlockIndex block) {
  return run / "stats" / concat("maps-", padded(block.value, 3), ".safetensors");
}
std::string wave_name(int wave) { return concat("wave-", padded(wave, 2)); }
std::string step_name(const SnapshotKey& key) { return concat("step-", padded(key.step, 5)); }
fs::path snapshot_path(const fs::path& run, const SnapshotKey& key, BlockIndex block) {
  return run / "snapshots" / wave_name(key.wave) / step_name(key) / file_name(block);
}
fs::path candidate_path(const fs::path& run, int wave, int epoch, BlockIndex block) {
  return run / "snapshots" / wave_name(wave) / concat("epoch-", padded(epoch, 3)) /
         file_name(block);
}

void save(FileSystem& files, const fs::path& path, const TensorFile& content) {
  files.create_directories(path.parent_path());
  save_tensor_file(files, path, content);
}

/// True if the file can be loaded; one that cannot is told, as it means work to redo.
bool whole(const FileSystem& files, const fs::path& path) {
  if (!files.exists(path)) return false;
  try {
    static_cast<void>(load_tensor_file(files, path));
    return true;
  } catch (const DataError& error) {
    log_event(LogLevel::kWarning, "torn_file",
              concat("path=", path.string(), " reason=\"", error.text().what, '"'));
    return false;
  }
}

}  // namespace

BlockStateStore::BlockStateStore(FileSystem& files, fs::path run)
    : files_(files), run_(std::move(run)) {}

void BlockStateStore::save_block(BlockIndex block, const TensorFile& state) {
  save(files_, block_path(run_, block), state);
}
TensorFile BlockStateStore::load_block(BlockIndex block) const {
  return load_tensor_file(files_, block_path(run_, block));
}
void BlockStateStore::save_statistics(BlockIndex block, const TensorFile& statistics) {
  save(files_, statistics_path(run_, block), statistics);
}
TensorFile BlockStateStore::load_statistics(BlockIndex block) const {
  return load_tensor_file(files_, statistics_path(run_, block));
}
void BlockStateStore::save_maps(BlockIndex block, const TensorFile& maps) {
  save(files_, maps_path(run_, block), maps);
}
TensorFile BlockStateStore::load_maps(BlockIndex block) const {
  return load_tensor_file(files_, maps_path(run_, block));
}
void BlockStateStore::save_snapshot(const SnapshotKey& key, BlockIndex block,
                                    const TensorFile& state) {
  save(files_, snapshot_path(run_, key, block), state);
}
TensorFile BlockStateStore::load_snapshot(const SnapshotKey& key, BlockIndex block) const {
  return load_tensor_file(files_, snapshot_path(run_, key, block));
}
void BlockStateStore::save_candidate(int wave, int epoch, BlockIndex block,
                                     const TensorFile& learnables) {
  save(files_, candidate_path(run_, wave, epoch, block), learnables);
}
TensorFile BlockStateStore::load_candidate(int wave, int epoch, BlockIndex block) const {
  return load_tensor_file(files_, candidate_path(run_, wave, epoch, block));
}

bool BlockStateStore::has_block(BlockIndex block) const {
  return whole(files_, block_path(run_, block));
}
bool BlockStateStore::has_statistics(BlockIndex block) const {
  return whole(files_, statistics_path(run_, block));
}
bool BlockStateStore::has_maps(BlockIndex block) const {
  return whole(files_, maps_path(run_, block));
}
bool BlockStateStore::has_snapshot(const SnapshotKey& key, BlockIndex block) const {
  return whole(files_, snapshot_path(run_, key, block));
}

void BlockStateStore::remove_snapshot(const SnapshotKey& key) {
  files_.remove(run_ / "snapshots" / wave_name(key.wave) / step_name(key));
}

void BlockStateStore::remove_snapshots_through(int last_wave) {
  for (int wave = 0; wave <= last_wave; ++wave) {
    files_.remove(run_ / "snapshots" / wave_name(wave));
  }
}

}  // namespace lrq::io

#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/block_state_store.h"
#include "io/file_system.h"

namespace lrq::io {

/// What run.json holds.  Text values only: the caller knows what they mean.
struct RunManifest {
  /// Compared on resume, by key: "model", "tokens", "recipe.train.wave", "seed", "dtype", ...
  std::map<std::string, std::string> identity;
  /// Compared too, but a difference is allowed with --other-machine: "threads", "instruction_set",
  /// "torch".
  std::map<std::string, std::string> machine;
  /// Told, not compared: version, command line, ranks, transport.
  std::map<std::string, std::string> about;
  /// The newest cut that every rank has made durable; step 0 = the start of that wave.
  std::optional<SnapshotKey> cut;
  /// Set when the last wave is frozen.
  bool finished = false;
};

/// Read and write <run>/run.json, atomically, with its own CRC32C.  Throws DataError.
void save_manifest(FileSystem& files, const std::filesystem::path& run,
                   const RunManifest& manifest);
/// nullopt if there is no run.json.  Throws DataError if it is torn.
[[nodiscard]] std::optional<RunManifest> load_manifest(const FileSystem& files,
                                                       const std::filesystem::path& run);

/// The same, and a DataError that says what to name where there is no run.json.
[[nodiscard]] RunManifest require_manifest(const FileSystem& files,
                                           const std::filesystem::path& run);

/// One line per difference: "recipe.train.wave: run has 8, asked 4".
[[nodiscard]] std::vector<std::string> differences(const std::map<std::string, std::string>& run,
                                                   const std::map<std::string, std::string>& asked);

/// Hold <run>/lock with flock for the life of the object; a dead process cannot hold it.
/// Throws UsageError (path, what to do) if another live process holds it, DataError if the folder
/// cannot be made.
class RunLock {
 public:
  explicit RunLock(const std::filesystem::path& run);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace lrq::io

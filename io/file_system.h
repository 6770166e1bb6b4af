#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/error.h"

namespace lrq::io {

/// All access to files that a later run must be able to trust.  Tests put a disk in memory, a
/// crashing disk or a full disk behind it.
/// Every method throws DataError (path, the system's own text) on failure.  Threads: any.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  [[nodiscard]] virtual bool exists(const std::filesystem::path& path) const = 0;
  [[nodiscard]] virtual std::string read(const std::filesystem::path& path) const = 0;
  /// Create or truncate the file and write the bytes; not durable before sync().
  virtual void write(const std::filesystem::path& path, std::span<const std::byte> bytes) = 0;
  /// Append the bytes, with one system call where they are few: lines of metrics.jsonl, and the
  /// tensors of a file that is written as it is made.
  virtual void append(const std::filesystem::path& path, std::string_view text) = 0;
  /// Make the file's (or folder's) content durable.
  virtual void sync(const std::filesystem::path& path) = 0;
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Remove a file or a whole folder; a missing one is no error.
  virtual void remove(const std::filesystem::path& path) = 0;
  /// Durable when it returns: the parents of new folders are synced too.
  virtual void create_directories(const std::filesystem::path& path) = 0;
  /// Names (not paths) in a folder, sorted; empty if there is none.
  [[nodiscard]] virtual std::vector<std::string> list(const std::filesystem::path& path) const = 0;
};

/// The real disk.
[[nodiscard]] std::unique_ptr<FileSystem> make_posix_file_system();

/// Where write_atomically() writes first: "<path>.tmp".
[[nodiscard]] std::filesystem::path temporary_path(const std::filesystem::path& path);

/// Make a file appear whole or not at all: write to "<path>.tmp", sync, rename, sync the folder.
/// After a DataError the temporary file is gone and the old file, if any, is still there.
void write_atomically(FileSystem& files, const std::filesystem::path& path,
                      std::span<const std::byte> bytes);
void write_atomically(FileSystem& files, const std::filesystem::path& path, std::string_view text);

/// Give a file that somebody else wrote (HDF5) its final name: sync, rename, sync the folder.
void publish(FileSystem& files, const std::filesystem::path& temporary,
             const std::filesystem::path& path);

/// The DataError for a system call that ended with `error_number`: what was tried, the system's own
/// text, the path, and the fix that belongs to the number (a full disk, a missing right, ...).
[[nodiscard]] DataError system_error(std::string_view tried, const std::filesystem::path& path,
                                     int error_number);

}  // namespace lrq::io

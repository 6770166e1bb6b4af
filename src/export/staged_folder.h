#pragma once

#include <filesystem>
#include <string>

#include "io/file_system.h"
#include "src/export/job.h"

namespace lrq::exporter {

/// The note that every exported folder holds: how one is told from a user's own folder.
inline constexpr const char* kNoteFile = "lrq_dist.json";

/// A folder that appears whole or not at all: it is filled under the name "<out>.tmp" and gets its
/// own when everything in it is durable.  One rank stages it, all may write into it.
class StagedFolder {
 public:
  StagedFolder(io::FileSystem& files, const std::filesystem::path& out);

  /// Look what is in the way, and change nothing.  source: the folder of the original model.
  /// Throws UsageError: `out` is a file, or the source itself, or a folder with something in it
  /// (with overwrite: unless that is an older export, flat and with its note), or "<out>.tmp" is
  /// something of the user's.
  void check(const Target& target, const std::filesystem::path& source) const;
  [[nodiscard]] const std::filesystem::path& path() const { return staged_; }
  /// Make the empty folder, without what an interrupted export left, and put the note into it.
  void begin(const std::string& note);
  /// Give the folder its name.  An older export is there until the new one is.
  void publish();
  /// Remove what was written.  Never throws: the first error is the one to tell.
  void discard() noexcept;

 private:
  io::FileSystem& files_;  // Owns: borrowed from the job
  std::filesystem::path out_;
  std::filesystem::path staged_;
};

}  // namespace lrq::exporter

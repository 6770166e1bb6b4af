#include "src/export/staged_folder.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::exporter {
namespace {

namespace fs = std::filesystem;

/// "out/" and "out" are one folder, and its temporary name stands beside it.
fs::path without_slash(const fs::path& path) {
  const fs::path normal = fs::absolute(path).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

/// A folder that one of our exports made, finished or not: flat, and with the note if with
/// anything.
bool is_export(const io::FileSystem& files, const fs::path& folder) {
  const std::vector<std::string> names = files.list(folder);
  const bool flat = std::none_of(names.begin(), names.end(), [&](const std::string& name) {
    return fs::is_directory(folder / name);
  });
  const fs::path note = folder / kNoteFile;
  return names.empty() || (flat && (files.exists(note) || files.exists(io::temporary_path(note))));
}

[[noreturn]] void refuse(const std::string& what, const fs::path& where, const std::string& fix) {
  throw UsageError({.what = what, .where = concat("option --out, ", where.string()), .fix = fix});
}

}  // namespace

StagedFolder::StagedFolder(io::FileSystem& files, const fs::path& out)
    : files_(files), out_(without_slash(out)), staged_(io::temporary_path(out_)) {}

void StagedFolder::check(const Target& target, const fs::path& source) const {
  if (files_.exists(staged_) && !(fs::is_directory(staged_) && is_export(files_, staged_))) {
    refuse("the export is written under this name first, and something else is there", staged_,
           "move it away, or name another folder with --out");
  }
  if (!files_.exists(out_)) return;
  if (!fs::is_directory(out_)) {
    refuse("a file is in the way of the folder", out_, "name another folder with --out");
  }
  if (fs::equivalent(out_, source)) {
    refuse("the folder is the model that was calibrated", out_, "name another folder with --out");
  }
  if (files_.list(out_).empty()) return;
  if (!target.overwrite) {
    refuse("the folder is not empty", out_,
           "name another folder with --out, or add --overwrite to replace an older export");
  }
  if (!is_export(files_, out_)) {
    refuse(concat("--overwrite replaces an older export, a flat folder with a file ", kNoteFile,
                  ", and this is none"),
           out_, "name another folder with --out");
  }
}

void StagedFolder::begin(const std::string& note) {
  files_.remove(staged_);
  files_.create_directories(staged_);
  io::write_atomically(files_, staged_ / kNoteFile, note);
}

void StagedFolder::publish() {
  files_.sync(staged_);
  const fs::path replaced = out_.string() + ".replaced.tmp";
  const bool replaces = files_.exists(out_);
  if (replaces) {
    files_.remove(replaced);
    files_.rename(out_, replaced);
  }
  files_.rename(staged_, out_);
  files_.sync(out_.parent_path());
  if (replaces) files_.remove(replaced);
}

void StagedFolder::discard() noexcept {
  try {
    files_.remove(staged_);
  } catch (const Error&) {
    return;  // the error that led here is the one to tell
  }
}

}  // namespace lrq::exporter

#include "io/file_system.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <sys/stat.h>

#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

/// A file descriptor of this process.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, std::string_view tried)
      : path_(path), value_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (value_ < 0) throw system_error(tried, path_, errno);
  }
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int value() const { return value_; }
  /// Network file systems report a full disk here at the latest.
  void close() {
    if (::close(std::exchange(value_, -1)) != 0 && errno != EINTR) {
      throw system_error("close", path_, errno);
    }
  }

 private:
  fs::path path_;
  int value_;
};

void write_all(const Descriptor& file, const fs::path& path, const char* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::write(file.value(), data, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw system_error("write", path, errno);
    data += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

/// The folder that holds the entry, also for "run.json".
fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

class PosixFileSystem final : public FileSystem {
 public:
  [[nodiscard]] bool exists(const fs::path& path) const override {
    std::error_code error;
    const bool found = fs::exists(path, error);
    if (error) throw system_error("look for", path, error.value());
    return found;
  }

  [[nodiscard]] std::string read(const fs::path& path) const override {
    const Descriptor file(path, O_RDONLY, "open");
    struct stat status = {};
    if (::fstat(file.value(), &status) != 0) throw system_error("read", path, errno);
    std::string text(static_cast<std::size_t>(std::max<off_t>(status.st_size, 0)), '\0');
    std::size_t filled = 0;
    while (filled < text.size()) {
      const ssize_t got = ::read(file.value(), text.data() + filled, text.size() - filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw system_error("read", path, errno);
      if (got == 0) break;  // somebody shortened it meanwhile: the reader's checks will say so
      filled += static_cast<std::size_t>(got);
    }
    text.resize(filled);
    return text;
  }

  void write(const fs::path& path, std::span<const std::byte> bytes) override {
    Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC, "create");
    write_all(file, path, reinterpret_cast<const char*>(bytes.data()), bytes.size());
    file.close();
  }

  void append(const fs::path& path, std::string_view text) override {
    Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND, "append to");
    write_all(file, path, text.data(), text.size());
    file.close();
  }

  void sync(const fs::path& path) override {
    Descriptor file(path, O_RDONLY, "open for sync");
    if (::fsync(file.value()) != 0) throw system_error("sync", path, errno);
    file.close();
  }

  void rename(const fs::path& from, const fs::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      const int number = errno;
      throw system_error(concat("rename ", from.filename().string(), " to"), to, number);
    }
  }

  void remove(const fs::path& path) override {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) throw system_error("remove", path, error.value());
  }

  void create_directories(const fs::path& path) override {
    if (path.empty() || exists(path)) return;
    create_directories(path.parent_path());
    if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) {
      throw system_error("make the folder", path, errno);
    }
    sync(folder_of(path));
  }

  [[nodiscard]] std::vector<std::string> list(const fs::path& path) const override {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error)) {
      names.push_back(entry->path().filename().string());
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      throw system_error("list", path, error.value());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
};

std::string fix_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "free space there, or name another folder (--run, --out)";
    case EACCES:
    case EPERM:
    case EROFS:
      return "check owner and rights of that path, or name another folder (--run, --out)";
    case ENOENT:
      return "check the spelling of the path, and that the file system is mounted on this node";
    case ENOTDIR:
    case EISDIR:
      return "remove or rename what lies at that path, or name another";
    default:
      return "check that the file system is mounted and healthy on this node, then start again "
             "with --resume";
  }
}

}  // namespace

std::unique_ptr<FileSystem> make_posix_file_system() { return std::make_unique<PosixFileSystem>(); }

fs::path temporary_path(const fs::path& path) { return path.string() + ".tmp"; }

void write_atomically(FileSystem& files, const fs::path& path, std::span<const std::byte> bytes) {
  const fs::path temporary = temporary_path(path);
  try {
    files.write(temporary, bytes);
    publish(files, temporary, path);
  } catch (const Error&) {
    try {
      files.remove(temporary);
    } catch (const Error&) {  // the first error is the one to tell
    }
    throw;
  }
}

void write_atomically(FileSystem& files, const fs::path& path, std::string_view text) {
  write_atomically(files, path, std::as_bytes(std::span(text.data(), text.size())));
}

void publish(FileSystem& files, const fs::path& temporary, const fs::path& path) {
  files.sync(temporary);
  files.rename(temporary, path);
  files.sync(folder_of(path));
}

DataError system_error(std::string_view tried, const fs::path& path, int error_number) {
  return DataError(
      {.what = concat("cannot ", tried, " ", path.filename().string(), ": ",
                      std::generic_category().message(error_number), " (errno ", error_number, ")"),
       .where = path.string(),
       .fix = fix_for(error_number)});
}

}  // namespace lrq::io

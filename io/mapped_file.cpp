#include "io/mapped_file.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include <sys/mman.h>
#include <sys/stat.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

[[noreturn]] void throw_unreadable(const std::filesystem::path& path, int error) {
  throw DataError({.what = concat("cannot read the file: ", std::strerror(error)),
                   .where = path.string(),
                   .fix = error == ENOENT ? "check the path" : "check the file's permissions"});
}

/// Close a descriptor at the end of its scope; a mapping outlives its descriptor.
struct OpenForMapping {
  int number = -1;
  explicit OpenForMapping(int opened) : number(opened) {}
  ~OpenForMapping() {
    if (number >= 0) ::close(number);
  }
  OpenForMapping(const OpenForMapping&) = delete;
  OpenForMapping& operator=(const OpenForMapping&) = delete;
};

}  // namespace

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  const OpenForMapping file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number < 0) throw_unreadable(path_, errno);
  struct stat status {};
  if (::fstat(file.number, &status) != 0) throw_unreadable(path_, errno);
  if (!S_ISREG(status.st_mode)) {
    throw DataError({.what = "this is no regular file",
                     .where = path_.string(),
                     .fix = "name a file, not a folder or a device"});
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;  // mmap refuses a length of 0
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (start == MAP_FAILED) throw_unreadable(path_, errno);
  // Tensors are read in any order: read-ahead past the end of one would be wasted.
  ::madvise(start, size, MADV_RANDOM);
  bytes_ = {static_cast<const std::byte*>(start), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::will_need(std::span<const std::byte> part) const noexcept {
  advise(part, MADV_WILLNEED);
}

void MappedFile::release(std::span<const std::byte> part) const noexcept {
  advise(part, MADV_DONTNEED);
}

void MappedFile::advise(std::span<const std::byte> part, int advice) const noexcept {
  if (part.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(part.data());
  const std::uintptr_t aligned = start - start % page;
  // Advice is a matter of speed and memory only: a kernel that refuses it changes no result.
  ::madvise(reinterpret_cast<void*>(aligned), start + part.size() - aligned, advice);
}

}  // namespace lrq::io

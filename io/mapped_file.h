#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace lrq::io {

/// Map a whole file for reading; pages come in when they are touched.
/// Owns: the mapping, which lives as long as the object (bytes() points into it).  The file must
/// not be made shorter meanwhile: touching a page that is gone ends the process.
class MappedFile {
 public:
  /// Throws DataError: no such file, not a regular file, not readable.
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Tell the kernel that `part` of bytes() is read next, or that it is not needed again (its pages
  /// then no longer count as memory of this process).  Never changes what bytes() holds.
  void will_need(std::span<const std::byte> part) const noexcept;
  void release(std::span<const std::byte> part) const noexcept;

 private:
  void advise(std::span<const std::byte> part, int advice) const noexcept;

  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

}  // namespace lrq::io

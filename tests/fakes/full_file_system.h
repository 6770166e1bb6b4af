#pragma once

#include "io/file_system.h"

namespace lrq::io {

/// A disk with room for `bytes` more: what does not fit is cut off and ends in the DataError of the
/// real disk for ENOSPC.  Removing files frees nothing.  Threads: one.
class FullFileSystem final : public FileSystem {
 public:
  FullFileSystem(FileSystem& disk, std::size_t bytes) : disk_(disk), left_(bytes) {}

  [[nodiscard]] bool exists(const std::filesystem::path& path) const override;
  [[nodiscard]] std::string read(const std::filesystem::path& path) const override;
  void write(const std::filesystem::path& path, std::span<const std::byte> bytes) override;
  void append(const std::filesystem::path& path, std::string_view text) override;
  void sync(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove(const std::filesystem::path& path) override;
  void create_directories(const std::filesystem::path& path) override;
  [[nodiscard]] std::vector<std::string> list(const std::filesystem::path& path) const override;

 private:
  /// How many of `bytes` fit; they are taken.
  std::size_t take(std::size_t bytes);

  FileSystem& disk_;  // Owns: borrowed from the test
  std::size_t left_;
};

}  // namespace lrq::io

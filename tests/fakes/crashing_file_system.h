#pragma once

#include "io/file_system.h"

namespace lrq::io {

/// What ends a simulated process.  Not an Error and not a std::exception, so that nothing which
/// handles errors handles it by mistake.
struct SimulatedCrash {};

/// Let `call - 1` changing calls through to another disk, then throw SimulatedCrash from that call
/// and from every later one.  A write that crashes has written the first half.  Threads: one.
class CrashingFileSystem final : public FileSystem {
 public:
  CrashingFileSystem(FileSystem& disk, int call) : disk_(disk), left_(call - 1) {}

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
  void count();
  [[nodiscard]] bool last_breath() const { return left_ == 0; }

  FileSystem& disk_;  // Owns: borrowed from the test
  int left_;
};

}  // namespace lrq::io

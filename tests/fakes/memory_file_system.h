#pragma once

#include <map>
#include <memory>
#include <set>

#include "io/file_system.h"

namespace lrq::io {

/// What a power loss does to what was never synced.  A real disk may do either.
enum class PowerLoss {
  kDropsRenames,  ///< names that were not synced are as they were before
  kKeepsRenames,  ///< the new names are there, over content that was written only by half
};

/// A disk in memory that knows what was synced: the content of a file by sync(file), its name by
/// sync(folder).  Folders are durable at once, as FileSystem promises.  Threads: one.
class MemoryFileSystem final : public FileSystem {
 public:
  [[nodiscard]] bool exists(const std::filesystem::path& path) const override;
  [[nodiscard]] std::string read(const std::filesystem::path& path) const override;
  void write(const std::filesystem::path& path, std::span<const std::byte> bytes) override;
  void append(const std::filesystem::path& path, std::string_view text) override;
  void sync(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove(const std::filesystem::path& path) override;
  void create_directories(const std::filesystem::path& path) override;
  [[nodiscard]] std::vector<std::string> list(const std::filesystem::path& path) const override;

  /// The disk as the next start finds it.
  [[nodiscard]] MemoryFileSystem after_power_loss(PowerLoss loss = PowerLoss::kDropsRenames) const;

 private:
  /// A file apart from its names: what a reader sees now, and what was synced.
  struct Content {
    std::string now;
    std::string durable;
    bool synced = false;
  };
  using Names = std::map<std::filesystem::path, std::shared_ptr<Content>>;

  Content& create_or_open(const std::filesystem::path& path);

  Names now_;
  Names durable_;
  std::set<std::filesystem::path> folders_;
};

}  // namespace lrq::io

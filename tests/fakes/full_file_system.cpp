#include "tests/fakes/full_file_system.h"

#include <algorithm>
#include <cerrno>

namespace lrq::io {

namespace fs = std::filesystem;

std::size_t FullFileSystem::take(std::size_t bytes) {
  const std::size_t fitting = std::min(bytes, left_);
  left_ -= fitting;
  return fitting;
}

bool FullFileSystem::exists(const fs::path& path) const { return disk_.exists(path); }
std::string FullFileSystem::read(const fs::path& path) const { return disk_.read(path); }
std::vector<std::string> FullFileSystem::list(const fs::path& path) const {
  return disk_.list(path);
}

void FullFileSystem::write(const fs::path& path, std::span<const std::byte> bytes) {
  const std::size_t fitting = take(bytes.size());
  disk_.write(path, bytes.first(fitting));
  if (fitting < bytes.size()) throw system_error("write", path, ENOSPC);
}

void FullFileSystem::append(const fs::path& path, std::string_view text) {
  const std::size_t fitting = take(text.size());
  disk_.append(path, text.substr(0, fitting));
  if (fitting < text.size()) throw system_error("write", path, ENOSPC);
}

void FullFileSystem::sync(const fs::path& path) { disk_.sync(path); }
void FullFileSystem::rename(const fs::path& from, const fs::path& to) { disk_.rename(from, to); }
void FullFileSystem::remove(const fs::path& path) { disk_.remove(path); }
void FullFileSystem::create_directories(const fs::path& path) { disk_.create_directories(path); }

}  // namespace lrq::io

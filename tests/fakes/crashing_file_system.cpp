#include "tests/fakes/crashing_file_system.h"

namespace lrq::io {

namespace fs = std::filesystem;

void CrashingFileSystem::count() {
  if (left_-- <= 0) throw SimulatedCrash{};
}

bool CrashingFileSystem::exists(const fs::path& path) const { return disk_.exists(path); }
std::string CrashingFileSystem::read(const fs::path& path) const { return disk_.read(path); }
std::vector<std::string> CrashingFileSystem::list(const fs::path& path) const {
  return disk_.list(path);
}

void CrashingFileSystem::write(const fs::path& path, std::span<const std::byte> bytes) {
  if (last_breath()) disk_.write(path, bytes.first(bytes.size() / 2));
  count();
  disk_.write(path, bytes);
}

void CrashingFileSystem::append(const fs::path& path, std::string_view text) {
  if (last_breath()) disk_.append(path, text.substr(0, text.size() / 2));
  count();
  disk_.append(path, text);
}

void CrashingFileSystem::sync(const fs::path& path) {
  count();
  disk_.sync(path);
}

void CrashingFileSystem::rename(const fs::path& from, const fs::path& to) {
  count();
  disk_.rename(from, to);
}

void CrashingFileSystem::remove(const fs::path& path) {
  count();
  disk_.remove(path);
}

void CrashingFileSystem::create_directories(const fs::path& path) {
  count();
  disk_.create_directories(path);
}

}  // namespace lrq::io

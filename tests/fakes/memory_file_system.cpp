#include "tests/fakes/memory_file_system.h"

#include <algorithm>
#include <cerrno>

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

bool inside(const fs::path& path, const fs::path& folder) {
  const auto ends = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return ends.first == folder.end();
}

}  // namespace

bool MemoryFileSystem::exists(const fs::path& path) const {
  return now_.contains(path) || folders_.contains(path);
}

std::string MemoryFileSystem::read(const fs::path& path) const {
  const auto found = now_.find(path);
  if (found == now_.end()) throw system_error("open", path, ENOENT);
  return found->second->now;
}

MemoryFileSystem::Content& MemoryFileSystem::create_or_open(const fs::path& path) {
  if (path.has_parent_path() && !folders_.contains(path.parent_path())) {
    throw system_error("create", path, ENOENT);
  }
  std::shared_ptr<Content>& content = now_[path];
  if (!content) content = std::make_shared<Content>();
  content->synced = false;
  return *content;
}

void MemoryFileSystem::write(const fs::path& path, std::span<const std::byte> bytes) {
  create_or_open(path).now.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void MemoryFileSystem::append(const fs::path& path, std::string_view text) {
  create_or_open(path).now.append(text);
}

void MemoryFileSystem::sync(const fs::path& path) {
  if (const auto file = now_.find(path); file != now_.end()) {
    file->second->durable = file->second->now;
    file->second->synced = true;
    return;
  }
  if (!folders_.contains(path)) throw system_error("open for sync", path, ENOENT);
  std::erase_if(durable_, [&](const auto& entry) { return entry.first.parent_path() == path; });
  for (const auto& [name, content] : now_) {
    if (name.parent_path() == path) durable_[name] = content;
  }
}

void MemoryFileSystem::rename(const fs::path& from, const fs::path& to) {
  const auto found = now_.find(from);
  if (found == now_.end()) throw system_error("rename", from, ENOENT);
  now_[to] = found->second;
  now_.erase(from);
}

void MemoryFileSystem::remove(const fs::path& path) {
  std::erase_if(now_, [&](const auto& entry) { return inside(entry.first, path); });
  std::erase_if(folders_, [&](const fs::path& folder) { return inside(folder, path); });
}

void MemoryFileSystem::create_directories(const fs::path& path) {
  for (fs::path folder = path; !folder.empty() && !folders_.contains(folder);
       folder = folder.parent_path()) {
    folders_.insert(folder);
    if (folder == folder.parent_path()) break;
  }
}

std::vector<std::string> MemoryFileSystem::list(const fs::path& path) const {
  std::vector<std::string> names;
  for (const auto& [name, content] : now_) {
    if (name.parent_path() == path) names.push_back(name.filename().string());
  }
  for (const fs::path& folder : folders_) {
    if (folder != path && folder.parent_path() == path) names.push_back(folder.filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

MemoryFileSystem MemoryFileSystem::after_power_loss(PowerLoss loss) const {
  MemoryFileSystem disk;
  disk.folders_ = folders_;
  const Names& names = loss == PowerLoss::kDropsRenames ? durable_ : now_;
  for (const auto& [name, content] : names) {
    auto left = std::make_shared<Content>();
    left->now = content->synced || loss == PowerLoss::kDropsRenames
                    ? content->durable
                    : content->now.substr(0, content->now.size() / 2);
    left->durable = left->now;
    left->synced = true;
    disk.now_[name] = left;
    disk.durable_[name] = left;
    disk.create_directories(name.parent_path());
  }
  return disk;
}

}  // namespace lrq::io

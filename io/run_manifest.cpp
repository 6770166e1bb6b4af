#include "io/run_manifest.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <set>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sys/file.h>

#include "io/crc32c.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Texts = std::map<std::string, std::string>;

constexpr const char* kFormat = "lrq-dist run 1";

fs::path manifest_path(const fs::path& run) { return run / "run.json"; }

/// The one text that this content has: keys in byte order, two spaces a level, the checksum over
/// the same text without its line.
std::string to_text(const RunManifest& manifest) {
  Json json = {{"format", kFormat},
               {"identity", manifest.identity},
               {"machine", manifest.machine},
               {"about", manifest.about},
               {"cut", nullptr},
               {"finished", manifest.finished}};
  if (manifest.cut) json["cut"] = {{"wave", manifest.cut->wave}, {"step", manifest.cut->step}};
  const std::string plain = json.dump(2);
  json["crc32c"] = crc32c(std::as_bytes(std::span(plain.data(), plain.size())));
  return json.dump(2) + "\n";
}

RunManifest from_json(const Json& json) {
  RunManifest manifest;
  manifest.identity = json.at("identity").get<Texts>();
  manifest.machine = json.at("machine").get<Texts>();
  manifest.about = json.at("about").get<Texts>();
  manifest.finished = json.at("finished").get<bool>();
  const Json& cut = json.at("cut");
  if (!cut.is_null()) {
    manifest.cut =
        SnapshotKey{.wave = cut.at("wave").get<int>(), .step = cut.at("step").get<std::int64_t>()};
  }
  return manifest;
}

[[noreturn]] void refuse_manifest(const fs::path& path, const std::string& what) {
  throw DataError({.what = concat("run.json ", what),
                   .where = path.string(),
                   .fix = "put back a copy of the file, or start again in an empty folder with "
                          "--run (run.json is written by the program only)"});
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

/// What the holder wrote about itself.
std::string holder(int descriptor) {
  std::array<char, 256> text{};
  const ssize_t got = ::pread(descriptor, text.data(), text.size() - 1, 0);
  std::string line(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line.empty() ? "another process" : line;
}

}  // namespace

void save_manifest(FileSystem& files, const fs::path& run, const RunManifest& manifest) {
  std::string text;
  try {
    text = to_text(manifest);
  } catch (const Json::type_error& error) {
    throw UsageError({.what = concat("an option is not UTF-8 text: ", error.what()),
                      .where = manifest_path(run).string(),
                      .fix = "name files and folders in UTF-8 on the command line"});
  }
  files.create_directories(run);
  write_atomically(files, manifest_path(run), text);
}

std::optional<RunManifest> load_manifest(const FileSystem& files, const fs::path& run) {
  const fs::path path = manifest_path(run);
  if (!files.exists(path)) return std::nullopt;
  const std::string text = files.read(path);
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) refuse_manifest(path, "is torn: it is not a JSON object");
  try {
    const auto format = json.at("format").get<std::string>();
    if (format != kFormat) {
      refuse_manifest(path, concat("has format \"", format, "\", \"", kFormat, "\" expected"));
    }
    RunManifest manifest = from_json(json);
    // Written again it must be the same text, checksum included: nothing else was written by us.
    if (to_text(manifest) != text) {
      refuse_manifest(path, "is torn or was edited: its CRC32C does not match");
    }
    return manifest;
  } catch (const Json::exception& error) {
    refuse_manifest(path, concat("is torn: ", error.what()));
  }
}

RunManifest require_manifest(const FileSystem& files, const std::filesystem::path& run) {
  auto manifest = load_manifest(files, run);
  if (!manifest) {
    throw DataError({.what = files.exists(run) ? "the folder holds no run.json"
                                               : "there is no such folder, and so no run.json",
                     .where = run.string(),
                     .fix = "name the run directory that lrq-dist calibrate wrote"});
  }
  return *std::move(manifest);
}

std::vector<std::string> differences(const Texts& run, const Texts& asked) {
  const auto shown = [](const Texts& texts, const std::string& key) {
    const auto found = texts.find(key);
    return found == texts.end() ? std::string("nothing") : found->second;
  };
  std::set<std::string> keys;
  for (const auto& [key, value] : run) keys.insert(key);
  for (const auto& [key, value] : asked) keys.insert(key);
  std::vector<std::string> lines;
  for (const std::string& key : keys) {
    if (run.contains(key) && asked.contains(key) && run.at(key) == asked.at(key)) continue;
    lines.push_back(concat(key, ": run has ", shown(run, key), ", asked ", shown(asked, key)));
  }
  return lines;
}

RunLock::RunLock(const fs::path& run) {
  make_posix_file_system()->create_directories(run);
  const fs::path path = run / "lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw system_error("open", path, errno);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int number = errno;
    const std::string who = holder(descriptor_);
    ::close(descriptor_);
    if (number != EWOULDBLOCK) throw system_error("lock", path, number);
    throw UsageError(
        {.what = concat("the run directory ", run.string(), " is in use: ", who, " holds its lock"),
         .where = path.string(),
         .fix = "wait for that process or stop it, or name another folder with --run"});
  }
  // Told to whoever comes next; the lock itself is the kernel's, so failing here does no harm.
  const std::string line = concat("process ", ::getpid(), " on ", host_name(), "\n");
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, line.data(), line.size(), 0) < 0) {
    return;
  }
}

RunLock::~RunLock() { ::close(descriptor_); }

}  // namespace lrq::io

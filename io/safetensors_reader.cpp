#include <algorithm>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <map>
#include <sstream>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <nlohmann/json.hpp>

#include "io/checkpoint_reader.h"
#include "io/crc32c.h"
#include "io/mapped_file.h"
#include "io/safetensors_header.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// One mapped file and what its header says.
struct Shard {
  explicit Shard(const fs::path& path)
      : file(path), header(parse_safetensors_header(file.bytes(), path)) {}
  MappedFile file;
  SafetensorsHeader header;
};

class SafetensorsReader : public CheckpointReader {
 public:
  SafetensorsReader(fs::path folder, std::map<std::string, Shard> shards,
                    std::map<std::string, std::string> shard_of)
      : folder_(std::move(folder)), shards_(std::move(shards)), shard_of_(std::move(shard_of)) {}

  [[nodiscard]] bool contains(const std::string& name) const override {
    return shard_of_.contains(name);
  }

  [[nodiscard]] std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, shard] : shard_of_) out.push_back(name);
    return out;
  }

  [[nodiscard]] at::ScalarType dtype(const std::string& name) const override {
    const auto found = shard_of_.find(name);
    if (found == shard_of_.end()) throw_missing(name);
    return shards_.at(found->second).header.tensors.at(name).dtype;
  }

  void check(const std::string& name, const std::vector<std::int64_t>& shape) const override {
    (void)find(name, shape);
  }

  [[nodiscard]] at::Tensor read(const std::string& name, const std::vector<std::int64_t>& shape,
                                at::ScalarType dtype) const override {
    const auto [shard, entry] = find(name, shape);
    const auto bytes = shard->file.bytes().subspan(entry->begin, entry->end - entry->begin);
    shard->file.will_need(bytes);
    at::Tensor tensor = copy_out(bytes, *entry, dtype);
    shard->file.release(bytes);
    return tensor;
  }

  [[nodiscard]] std::string fingerprint() const override {
    std::ostringstream out;
    for (const auto& [name, shard] : shards_) {
      const auto bytes = shard.file.bytes();
      out << (out.tellp() > 0 ? ";" : "") << name << ':' << bytes.size() << ':' << std::hex
          << std::setw(8) << std::setfill('0') << crc32c(bytes.first(shard.header.bytes))
          << std::dec;
    }
    return out.str();
  }

 private:
  struct Found {
    const Shard* shard = nullptr;
    const SafetensorsEntry* entry = nullptr;
  };

  [[nodiscard]] Found find(const std::string& name, const std::vector<std::int64_t>& shape) const {
    const auto found = shard_of_.find(name);
    if (found == shard_of_.end()) throw_missing(name);
    const Shard& shard = shards_.at(found->second);
    const SafetensorsEntry& entry = shard.header.tensors.at(name);
    if (entry.shape != shape) {
      throw DataError({.what = concat("tensor has shape ", format_list(entry.shape), ", not ",
                                      format_list(shape)),
                       .where = concat(shard.file.path().string(), ", tensor ", name),
                       .fix = "check that config.json belongs to these weights"});
    }
    return {&shard, &entry};
  }

  [[noreturn]] void throw_missing(const std::string& name) const {
    const std::string near = nearest_word(name, names());
    throw DataError(
        {.what = concat("checkpoint has no tensor ", name, " among its ", shard_of_.size()),
         .where = folder_.string(),
         .fix = near.empty() ? "check that config.json belongs to these weights"
                             : concat("did you mean ", near, "?")});
  }

  static at::Tensor copy_out(std::span<const std::byte> bytes, const SafetensorsEntry& entry,
                             at::ScalarType dtype) {
    const auto options = at::TensorOptions().device(at::kCPU);
    const auto start = reinterpret_cast<std::uintptr_t>(bytes.data());
    if (dtype != entry.dtype && start % c10::elementSize(entry.dtype) == 0 && !bytes.empty()) {
      // Converts straight from the mapping; from_blob asks for a pointer that it does not write to.
      auto* data = const_cast<std::byte*>(bytes.data());
      return at::from_blob(data, entry.shape, options.dtype(entry.dtype))
          .to(dtype, /*non_blocking=*/false, /*copy=*/true);
    }
    at::Tensor tensor = at::empty(entry.shape, options.dtype(entry.dtype));
    if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
    return tensor.to(dtype);
  }

  fs::path folder_;
  std::map<std::string, Shard> shards_;          // file name -> mapped file
  std::map<std::string, std::string> shard_of_;  // tensor -> file name
};

nlohmann::json read_index(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  try {
    nlohmann::json index = nlohmann::json::parse(in);
    if (index.is_object() && index.contains("weight_map") && index["weight_map"].is_object()) {
      return index;
    }
  } catch (const nlohmann::json::exception& error) {
    throw DataError({.what = concat("index is not JSON: ", error.what()),
                     .where = path.string(),
                     .fix = "download or copy the file again"});
  }
  throw DataError({.what = "index has no object \"weight_map\"",
                   .where = path.string(),
                   .fix = "download or copy the file again"});
}

/// Open `name` beside the index; a name with a folder in it could point outside of the checkpoint.
const Shard& open_shard(std::map<std::string, Shard>& shards, const fs::path& folder,
                        const std::string& name, const std::string& tensor) {
  if (const auto found = shards.find(name); found != shards.end()) return found->second;
  const std::string where = concat((folder / kIndexFile).string(), ", tensor ", tensor);
  if (fs::path(name).filename() != name || name.empty()) {
    throw DataError({.what = concat("index names the shard \"", name, "\", not a plain file name"),
                     .where = where,
                     .fix = "put the shards beside the index"});
  }
  if (!fs::exists(folder / name)) {
    throw DataError({.what = concat("index names the shard ", name, ", which is not there"),
                     .where = where,
                     .fix = concat("download ", name, " into ", folder.string())});
  }
  return shards.try_emplace(name, folder / name).first->second;
}

std::unique_ptr<CheckpointReader> open_sharded(const fs::path& folder) {
  const nlohmann::json index = read_index(folder / kIndexFile);
  std::map<std::string, Shard> shards;
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) {
      throw DataError(
          {.what = concat("index gives ", file.dump(), " as a tensor's file, not a name"),
           .where = concat((folder / kIndexFile).string(), ", tensor ", tensor),
           .fix = "download or copy the file again"});
    }
    const auto& name = file.get_ref<const std::string&>();
    const Shard& shard = open_shard(shards, folder, name, tensor);
    if (!shard.header.tensors.contains(tensor)) {
      throw DataError(
          {.what = concat("index says that ", name, " holds ", tensor, ", but it does not"),
           .where = (folder / kIndexFile).string(),
           .fix = "download the index and its shards from one revision"});
    }
    shard_of.emplace(tensor, name);
  }
  return std::make_unique<SafetensorsReader>(folder, std::move(shards), std::move(shard_of));
}

}  // namespace

/// Open the folder's safetensors files; null if it holds none.  (Listed in io/registry.cpp.)
std::unique_ptr<CheckpointReader> open_safetensors(const fs::path& folder) {
  if (fs::exists(folder / kSingleFile)) {
    std::map<std::string, Shard> shards;
    const Shard& shard = shards.try_emplace(kSingleFile, folder / kSingleFile).first->second;
    std::map<std::string, std::string> shard_of;
    for (const auto& [name, entry] : shard.header.tensors) shard_of.emplace(name, kSingleFile);
    return std::make_unique<SafetensorsReader>(folder, std::move(shards), std::move(shard_of));
  }
  return fs::exists(folder / kIndexFile) ? open_sharded(folder) : nullptr;
}

}  // namespace lrq::io

#include "tests/models/golden_file.h"

#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::models {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& path) {
  throw DataError({.what = what, .where = path, .fix = "copy the file again"});
}

at::ScalarType dtype_of(const std::string& name, const std::string& path) {
  if (name == "F32") return at::kFloat;
  if (name == "F64") return at::kDouble;
  if (name == "I64") return at::kLong;
  refuse(concat("dtype ", name, ", not F32, F64 or I64"), path);
}

at::Tensor read_tensor(const nlohmann::json& entry, std::string_view bytes,
                       const std::string& path) {
  const auto begin = entry.at("data_offsets").at(0).get<std::size_t>();
  const auto end = entry.at("data_offsets").at(1).get<std::size_t>();
  const at::Tensor tensor =
      at::empty(entry.at("shape").get<std::vector<std::int64_t>>(),
                at::device(at::kCPU).dtype(dtype_of(entry.at("dtype"), path)));
  if (end < begin || end > bytes.size() || end - begin != tensor.nbytes()) {
    refuse(concat("a tensor of ", tensor.nbytes(), " bytes lies at ", begin, " .. ", end, " of ",
                  bytes.size()),
           path);
  }
  std::memcpy(tensor.mutable_data_ptr(), bytes.data() + begin, tensor.nbytes());
  return tensor;
}

}  // namespace

const at::Tensor& GoldenFile::tensor(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) refuse(concat("no tensor ", name), path);
  return found->second;
}

const std::string& GoldenFile::setting(const std::string& name) const {
  const auto found = metadata.find(name);
  if (found == metadata.end()) refuse(concat("no setting ", name, " in the metadata"), path);
  return found->second;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || !text) refuse("cannot be read", path);
  return std::move(text).str();
}

GoldenFile read_golden_file(const std::string& path) {
  const std::string text = read_text(path);
  std::uint64_t header_bytes = 0;
  if (text.size() < sizeof header_bytes) refuse("shorter than a safetensors header", path);
  std::memcpy(&header_bytes, text.data(), sizeof header_bytes);
  if (header_bytes > text.size() - sizeof header_bytes) refuse("header runs past the end", path);
  const std::string_view all = text;
  const std::string_view bytes = all.substr(sizeof header_bytes + header_bytes);
  GoldenFile read;
  read.path = path;
  try {
    const auto header = nlohmann::json::parse(all.substr(sizeof header_bytes, header_bytes));
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read.metadata = entry.get<std::map<std::string, std::string>>();
      } else {
        read.tensors[name] = read_tensor(entry, bytes, path);
      }
    }
  } catch (const nlohmann::json::exception& error) {
    refuse(concat("header is not what safetensors writes: ", error.what()), path);
  }
  return read;
}

}  // namespace lrq::models

#include "io/safetensors_writer.h"

#include <bit>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/safetensors_header.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

// Bytes that one system call takes: Linux ends a longer one early anyway.
constexpr std::size_t kChunk = std::size_t{1} << 30;

/// Length, JSON text and padding.  Keys in the order of the data, so that a person finds a tensor
/// where the model has it.
std::string header_of_plan(const std::vector<PlannedTensor>& plan,
                           const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const PlannedTensor& tensor : plan) {
    expect(!header.contains(tensor.name), concat("tensor ", tensor.name, " is planned twice"));
    expect(at::isFloatingType(tensor.dtype),
           concat("a model is not written in dtype ", at::toString(tensor.dtype)));
    const std::size_t end = offset + tensor.bytes();
    header[tensor.name] = {{"dtype", safetensors_name(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  std::string out(kSafetensorsLengthBytes, '\0');
  std::memcpy(out.data(), &length, kSafetensorsLengthBytes);
  return out + text;
}

}  // namespace

std::size_t PlannedTensor::bytes() const {
  std::size_t bytes = c10::elementSize(dtype);
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  return bytes;
}

SafetensorsWriter::SafetensorsWriter(FileSystem& files, std::filesystem::path path,
                                     std::vector<PlannedTensor> plan,
                                     const std::map<std::string, std::string>& metadata)
    : files_(files), path_(std::move(path)), plan_(std::move(plan)) {
  const std::string header = header_of_plan(plan_, metadata);
  files_.write(temporary_path(path_), std::as_bytes(std::span(header.data(), header.size())));
}

void SafetensorsWriter::add(const std::string& name, const at::Tensor& tensor) {
  expect(next_ < plan_.size() && plan_[next_].name == name,
         concat("tensor ", name, " is not the next of the plan"));
  const PlannedTensor& planned = plan_[next_];
  expect(tensor.device().is_cpu() && tensor.scalar_type() == planned.dtype &&
             tensor.sizes() == at::IntArrayRef(planned.shape),
         concat("tensor ", name, " is not as planned"));
  const at::Tensor dense = tensor.contiguous();
  std::string_view left(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
  while (!left.empty()) {
    files_.append(temporary_path(path_), left.substr(0, kChunk));
    left.remove_prefix(std::min(kChunk, left.size()));
  }
  ++next_;
}

void SafetensorsWriter::finish() {
  expect(next_ == plan_.size(), concat("only ", next_, " of ", plan_.size(), " tensors written"));
  publish(files_, temporary_path(path_), path_);
}

}  // namespace lrq::io

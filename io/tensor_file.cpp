#include "io/tensor_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>

#include "io/crc32c.h"
#include "io/safetensors_header.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

using Json = nlohmann::json;  // keys in byte order, which makes the header canonical
static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr std::string_view kZeroCrc = "00000000";
constexpr std::string_view kCrcKey = "\"crc32c\":\"";

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string hex(std::uint32_t crc) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(8, '0');
  for (std::size_t i = 0; i < 8; ++i) text[7 - i] = kDigits[(crc >> (4 * i)) & 0xFU];
  return text;
}

/// Length, header and padding, with the checksum still zero.
std::string header_of(const TensorFile& content) {
  Json header = Json::object();
  Json metadata = content.metadata;
  expect(!metadata.contains("crc32c"), "metadata \"crc32c\" belongs to the format");
  metadata["crc32c"] = kZeroCrc;
  header["__metadata__"] = std::move(metadata);
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : content.tensors) {
    expect(name != "__metadata__", "a tensor cannot be called __metadata__");
    const std::uint64_t end = offset + tensor.nbytes();
    header[name] = {{"dtype", safetensors_name(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
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

/// Where the eight digits of the checksum stand.  The key cannot occur elsewhere: inside a JSON
/// string its quotes are escaped, and a tensor of that name is followed by an object.
std::optional<std::size_t> crc_place(std::string_view header) {
  const std::size_t key = header.find(kCrcKey);
  const std::size_t place = key + kCrcKey.size();
  if (key == std::string_view::npos || place + kZeroCrc.size() > header.size()) return std::nullopt;
  return place;
}

/// Reads one file's bytes; every complaint carries the path.
class Parser {
 public:
  Parser(const std::filesystem::path& path, std::string bytes)
      : path_(path), bytes_(std::move(bytes)) {}

  TensorFile parse() {
    split();
    verify_checksum();
    const Json header = Json::parse(header_, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) refuse("its header is not a JSON object", "header");
    TensorFile content;
    try {
      for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") {
          content.metadata = entry.get<std::map<std::string, std::string>>();
          content.metadata.erase("crc32c");
        } else {
          content.tensors.emplace(name, tensor(name, entry));
        }
      }
    } catch (const Json::exception& error) {
      refuse(concat("its header is not that of a safetensors file: ", error.what()), "header");
    }
    if (used_ != data_.size()) {
      refuse(concat("it holds ", data_.size(), " bytes of data, its tensors have ", used_), "data");
    }
    return content;
  }

 private:
  void split() {
    std::uint64_t length = 0;
    if (bytes_.size() < kSafetensorsLengthBytes) {
      refuse(concat("it is ", bytes_.size(), " bytes long, at least 8 expected"), "length");
    }
    std::memcpy(&length, bytes_.data(), kSafetensorsLengthBytes);
    const std::size_t rest = bytes_.size() - kSafetensorsLengthBytes;
    if (length > rest) {
      refuse(concat("its header says ", length, " bytes, the file has ", rest, " after its length"),
             "header");
    }
    const std::string_view all(bytes_);
    header_ = all.substr(kSafetensorsLengthBytes, length);
    data_ = all.substr(kSafetensorsLengthBytes + length);
  }

  void verify_checksum() const {
    const std::optional<std::size_t> place = crc_place(header_);
    if (!place) refuse("its metadata holds no crc32c", "header");
    const std::string found(header_.substr(*place, kZeroCrc.size()));
    const std::string_view all(bytes_);
    const std::size_t digits = kSafetensorsLengthBytes + *place;
    std::uint32_t crc = crc32c(bytes_of(all.substr(0, digits)));
    crc = crc32c(bytes_of(kZeroCrc), crc);
    crc = crc32c(bytes_of(all.substr(digits + kZeroCrc.size())), crc);
    if (hex(crc) != found) {
      refuse(concat("its CRC32C is ", hex(crc), ", its header says ", found), "checksum");
    }
  }

  at::Tensor tensor(const std::string& name, const Json& entry) {
    const auto text = entry.at("dtype").get<std::string>();
    const auto known = safetensors_dtype(text);
    if (!known) refuse(concat("dtype ", text, " is none of ours"), name);
    const at::ScalarType dtype = *known;
    const auto shape = entry.at("shape").get<std::vector<std::int64_t>>();
    const auto offsets = entry.at("data_offsets").get<std::array<std::uint64_t, 2>>();
    const std::uint64_t bytes = bytes_of_shape(shape, c10::elementSize(dtype), name);
    if (offsets[0] != used_ || offsets[1] != used_ + bytes) {
      refuse(concat("its offsets are ", format_list(offsets), ", expected ", used_, " and ", bytes,
                    " bytes more"),
             name);
    }
    at::Tensor out = at::empty(shape, at::TensorOptions(at::kCPU).dtype(dtype));
    if (bytes > 0) std::memcpy(out.mutable_data_ptr(), data_.data() + used_, bytes);
    used_ = offsets[1];
    return out;
  }

  /// Never more than the data that is left, so that no shape asks for memory it cannot fill.
  [[nodiscard]] std::uint64_t bytes_of_shape(const std::vector<std::int64_t>& shape,
                                             std::uint64_t element, const std::string& name) const {
    std::uint64_t bytes = element;
    for (const std::int64_t length : shape) {
      if (length < 0 || (length > 0 && bytes > data_.size() / static_cast<std::uint64_t>(length))) {
        refuse(concat("its shape is ", format_list(shape), ", the file holds ", data_.size(),
                      " bytes of data"),
               name);
      }
      bytes *= static_cast<std::uint64_t>(length);
    }
    if (bytes > data_.size() - used_) {
      refuse(concat("it has ", bytes, " bytes, ", data_.size() - used_, " are left"), name);
    }
    return bytes;
  }

  [[noreturn]] void refuse(const std::string& what, const std::string& part) const {
    throw DataError(
        {.what = concat("torn or foreign tensor file ", path_.filename().string(), ": ", what),
         .where = concat(path_.string(), ", ", part),
         .fix = "remove that file and run again with --resume: it is made again"});
  }

  const std::filesystem::path& path_;
  std::string bytes_;
  std::string_view header_;
  std::string_view data_;
  std::size_t used_ = 0;
};

}  // namespace

void save_tensor_file(FileSystem& files, const std::filesystem::path& path,
                      const TensorFile& content) {
  TensorFile dense{.tensors = {}, .metadata = content.metadata};
  std::size_t data_bytes = 0;
  for (const auto& [name, tensor] : content.tensors) {
    expect(tensor.defined() && tensor.device().is_cpu(), "a saved tensor is on the CPU");
    const auto place = dense.tensors.emplace(name, tensor.detach().contiguous()).first;
    data_bytes += place->second.nbytes();
  }
  std::string bytes = header_of(dense);
  const std::size_t digits = crc_place(bytes).value();
  bytes.reserve(bytes.size() + data_bytes);
  for (const auto& [name, tensor] : dense.tensors) {
    bytes.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  bytes.replace(digits, kZeroCrc.size(), hex(crc32c(bytes_of(bytes))));
  write_atomically(files, path, bytes);
}

TensorFile load_tensor_file(const FileSystem& files, const std::filesystem::path& path) {
  return Parser(path, files.read(path)).parse();
}

}  // namespace lrq::io

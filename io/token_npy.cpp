#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

#include <ATen/ATen.h>

#include "io/mapped_file.h"
#include "io/token_formats.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kAlignment = 64;  // where the data of a .npy file starts

[[noreturn]] void refuse_npy(const fs::path& path, std::string what) {
  throw DataError({.what = std::move(what),
                   .where = path.string(),
                   .fix = "write the ids with numpy.save(FILE, ids.astype('int32')), 1-D or 2-D"});
}

/// Copy integers of type T, which need not be aligned, as int64.
template <typename T>
void widen(std::span<const std::byte> bytes, std::int64_t* out) {
  for (std::size_t i = 0; i * sizeof(T) < bytes.size(); ++i) {
    T value{};
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<std::int64_t>(value);
  }
}

struct NpyType {
  std::string_view name;
  std::size_t bytes;
  void (*widen)(std::span<const std::byte> bytes, std::int64_t* out);
};

constexpr std::array kTypes = {
    NpyType{"<i4", 4, &widen<std::int32_t>},  NpyType{"<i8", 8, &widen<std::int64_t>},
    NpyType{"<u2", 2, &widen<std::uint16_t>}, NpyType{"<u4", 4, &widen<std::uint32_t>},
    NpyType{"<i2", 2, &widen<std::int16_t>},
};

/// The header's Python literal, and where the data starts.
struct NpyHeader {
  std::string_view text;
  std::size_t data_start = 0;
};

NpyHeader read_header(std::span<const std::byte> file, const fs::path& path) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (!text.starts_with(kMagic) || text.size() < 12) refuse_npy(path, "file is no .npy file");
  const int version = static_cast<unsigned char>(text[6]);
  if (version < 1 || version > 3) {
    refuse_npy(path, concat(".npy version is ", version, ", read are 1 to 3"));
  }
  std::uint32_t length = 0;
  std::memcpy(&length, text.data() + 8, version == 1 ? 2 : 4);
  const std::size_t start = version == 1 ? 10 : 12;
  if (length > text.size() - start) {
    refuse_npy(path,
               concat("file is ", text.size(), " bytes, its header alone needs ", start + length));
  }
  return {.text = text.substr(start, length), .data_start = start + length};
}

/// What follows 'key': in the header.
std::string_view value_of(std::string_view header, std::string_view key, const fs::path& path) {
  const std::string quoted_key = concat('\'', key, '\'');
  std::size_t at = header.find(quoted_key);
  if (at != std::string_view::npos) at = header.find(':', at + quoted_key.size());
  if (at != std::string_view::npos) at = header.find_first_not_of(' ', at + 1);
  if (at == std::string_view::npos) refuse_npy(path, concat("header has no '", key, "'"));
  return header.substr(at);
}

std::vector<std::int64_t> read_shape(std::string_view header, const fs::path& path) {
  const std::string_view value = value_of(header, "shape", path);
  const std::string_view inside = value.substr(0, value.find(')'));
  std::vector<std::int64_t> shape;
  for (const char* at = inside.data(); at != inside.data() + inside.size();) {
    std::int64_t size = 0;
    const auto [end, error] = std::from_chars(at, inside.data() + inside.size(), size);
    if (error == std::errc::result_out_of_range || size < 0) {
      refuse_npy(path, concat("shape is ", inside, "), which cannot be"));
    }
    if (error == std::errc()) shape.push_back(size);
    at = error == std::errc() ? end : at + 1;
  }
  if (!value.starts_with('(') || shape.empty() || shape.size() > 2) {
    refuse_npy(path, concat("array has ", shape.size(), " axes, token ids have 1 or 2"));
  }
  return shape;
}

const NpyType& read_type(std::string_view header, const fs::path& path) {
  const std::string_view value = value_of(header, "descr", path);
  for (const NpyType& type : kTypes) {
    if (value.starts_with(concat('\'', type.name, '\''))) return type;
  }
  refuse_npy(path, concat("array is of type ", value.substr(0, value.find(',')),
                          ", read are '<i4', '<i8', '<u2', '<u4', '<i2'"));
}

}  // namespace

at::Tensor read_tokens_npy(const fs::path& path) {
  const MappedFile file(path);
  const NpyHeader header = read_header(file.bytes(), path);
  const NpyType& type = read_type(header.text, path);
  if (!value_of(header.text, "fortran_order", path).starts_with("False")) {
    refuse_npy(path, "array is in Fortran order, not in C order");
  }
  const std::vector<std::int64_t> shape = read_shape(header.text, path);
  const auto data = file.bytes().subspan(header.data_start);
  std::uint64_t needed = type.bytes;
  bool overflow = false;
  for (const std::int64_t size : shape) {
    overflow |= __builtin_mul_overflow(needed, static_cast<std::uint64_t>(size), &needed);
  }
  if (overflow || needed != data.size()) {
    refuse_npy(path,
               concat("file holds ", data.size(), " bytes of data, shape ", format_list(shape),
                      " needs ", overflow ? "far more" : std::to_string(needed)));
  }
  at::Tensor ids = at::empty(shape, at::TensorOptions().dtype(at::kLong).device(at::kCPU));
  type.widen(data, ids.mutable_data_ptr<std::int64_t>());
  return ids;
}

at::Tensor read_tokens_bin(const fs::path& path) {
  const MappedFile file(path);
  if (file.bytes().size() % sizeof(std::int32_t) != 0) {
    refuse_npy(path, concat("file is ", file.bytes().size(), " bytes, not whole int32 numbers"));
  }
  const auto count = static_cast<std::int64_t>(file.bytes().size() / sizeof(std::int32_t));
  at::Tensor ids = at::empty({count}, at::TensorOptions().dtype(at::kLong).device(at::kCPU));
  widen<std::int32_t>(file.bytes(), ids.mutable_data_ptr<std::int64_t>());
  return ids;
}

std::string tokens_as_npy(const at::Tensor& tokens) {
  std::string header =
      concat("{'descr': '<i4', 'fortran_order': False, 'shape': (", tokens.size(0), ",");
  if (tokens.dim() == 2) header += concat(' ', tokens.size(1));
  header += "), }";
  const std::size_t before = kMagic.size() + 4;  // version and length
  while ((before + header.size() + 1) % kAlignment != 0) header += ' ';
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());
  std::string out(kMagic);
  out += '\x01';
  out += '\0';
  out.append(reinterpret_cast<const char*>(&length), sizeof length);
  out += header;
  out.append(static_cast<const char*>(tokens.const_data_ptr()), tokens.nbytes());
  return out;
}

}  // namespace lrq::io

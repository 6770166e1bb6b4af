#include "io/describe.h"

#include <algorithm>
#include <array>
#include <hdf5.h>
#include <limits>
#include <vector>

#include "io/activation_shard.h"
#include "io/file_system.h"
#include "io/h5_handle.h"
#include "io/mapped_file.h"
#include "io/run_manifest.h"
#include "io/safetensors_header.h"
#include "io/tensor_file.h"
#include "io/token_file.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    case at::kByte:
      return "uint8";
    default:
      return c10::toString(dtype);
  }
}

std::string describe_safetensors(const fs::path& path) {
  const MappedFile file(path);
  const SafetensorsHeader header = parse_safetensors_header(file.bytes(), path);
  std::string text = concat(path.string(), ": safetensors, ", header.tensors.size(), " tensors, ",
                            format_bytes(file.bytes().size()), "\n");
  for (const auto& [key, value] : header.metadata) text += concat("  ", key, " = ", value, "\n");
  for (const auto& [name, entry] : header.tensors) {
    text += concat("  ", name, "  ", dtype_name(entry.dtype), " ", format_list(entry.shape), "\n");
  }
  if (header.metadata.contains("crc32c")) {
    static_cast<void>(load_tensor_file(*make_posix_file_system(), path));
    text += "checksum holds\n";
  }
  return text;
}

std::string type_name(const H5Handle& type, const std::string& where) {
  const auto bytes = H5Tget_size(type.id());
  switch (H5Tget_class(type.id())) {
    case H5T_INTEGER:
      return concat(H5Tget_sign(type.id()) == H5T_SGN_NONE ? "uint" : "int", bytes * 8);
    case H5T_FLOAT: {
      const H5Handle bfloat16 = h5_bfloat16_type();
      const bool is_bfloat16 =
          h5_check(H5Tequal(type.id(), bfloat16.id()), "compare types", where) > 0;
      return is_bfloat16 ? "bfloat16" : concat("float", bytes * 8);
    }
    default:
      return "other type";
  }
}

herr_t add_dataset(hid_t group, const char* name, const H5L_info_t*, void* text) {
  const H5Handle object(H5Oopen(group, name, H5P_DEFAULT), "open", name);
  if (H5Iget_type(object.id()) != H5I_DATASET) return 0;
  const H5Handle space(H5Dget_space(object.id()), "read the shape of", name);
  std::vector<hsize_t> shape(
      static_cast<std::size_t>(std::max(0, H5Sget_simple_extent_ndims(space.id()))));
  h5_check(H5Sget_simple_extent_dims(space.id(), shape.data(), nullptr), "read the shape of", name);
  const H5Handle type(H5Dget_type(object.id()), "read the type of", name);
  const H5Handle creation(H5Dget_create_plist(object.id()), "read the layout of", name);
  const bool is_virtual = H5Pget_layout(creation.id()) == H5D_VIRTUAL;
  *static_cast<std::string*>(text) +=
      concat("  /", name, "  ", type_name(type, name), " ", format_list(shape),
             is_virtual ? "  virtual" : "", "\n");
  return 0;
}

bool has(const H5Handle& file, const char* name) {
  return H5Lexists(file.id(), name, H5P_DEFAULT) > 0;
}

/// Read every sample of a shard, or the ids of a token file; both throw where a checksum differs.
/// Returns whether the file carries checksums at all (the master does not: its shards do).
bool verify_hdf5(const fs::path& path) {
  const H5Handle file = h5_open(path);
  if (has(file, "tokens")) {
    static_cast<void>(read_token_file(path, std::numeric_limits<std::int32_t>::max()));
    return true;
  }
  if (!has(file, "samples") || !has(file, "crc32c")) return false;
  const std::string where = path.string();
  const H5Handle data(H5Dopen2(file.id(), "samples", H5P_DEFAULT), "open /samples in", where);
  const H5Handle space(H5Dget_space(data.id()), "read the shape in", where);
  if (H5Sget_simple_extent_ndims(space.id()) != 3) return false;
  std::array<hsize_t, 3> shape{};
  h5_check(H5Sget_simple_extent_dims(space.id(), shape.data(), nullptr), "read the shape in",
           where);
  const H5Handle type(H5Dget_type(data.id()), "read the type in", where);
  const ShardReader shard(path,
                          {.tokens = static_cast<std::int64_t>(shape[1]),
                           .hidden = static_cast<std::int64_t>(shape[2]),
                           .dtype = H5Tget_size(type.id()) == 2 ? at::kBFloat16 : at::kFloat});
  for (std::size_t row = 0; row < shard.samples().size(); ++row) {
    static_cast<void>(shard.read(row));
  }
  return true;
}

std::string describe_hdf5(const fs::path& path) {
  h5_begin();
  const H5Handle file = h5_open(path);
  std::string text = concat(path.string(), ": HDF5, ", format_bytes(fs::file_size(path)), "\n");
  h5_check(H5Lvisit(file.id(), H5_INDEX_NAME, H5_ITER_INC, add_dataset, &text), "list the datasets",
           path.string());
  if (verify_hdf5(path)) text += "checksum holds\n";
  return text;
}

std::string describe_manifest(const fs::path& path) {
  const auto manifest = load_manifest(*make_posix_file_system(), path.parent_path());
  std::string text = concat(path.string(), ": manifest of a run, checksum holds\n");
  const auto add = [&text](const char* heading, const auto& values) {
    text += concat(heading, "\n");
    for (const auto& [key, value] : values) {
      if (value.find('\n') == std::string::npos) text += concat("  ", key, " = ", value, "\n");
    }
  };
  add("compared on resume", manifest->identity);
  add("compared unless --other-machine", manifest->machine);
  add("about", manifest->about);
  if (manifest->cut) {
    text += concat("newest cut: wave ", manifest->cut->wave, ", step ", manifest->cut->step, "\n");
  }
  text += manifest->finished ? "finished\n" : "not finished\n";
  return text;
}

}  // namespace

std::string describe_file(const fs::path& path) {
  if (!fs::is_regular_file(path)) {
    throw DataError({.what = "no such file",
                     .where = path.string(),
                     .fix = "name a file, such as RUN/blocks/block-000.safetensors"});
  }
  const std::string extension = path.extension().string();
  if (extension == ".safetensors") return describe_safetensors(path);
  if (extension == ".h5" || extension == ".hdf5") return describe_hdf5(path);
  if (path.filename() == "run.json") return describe_manifest(path);
  throw DataError({.what = concat("a file of an unknown kind, '", extension, "'"),
                   .where = path.string(),
                   .fix = "inspect reads .safetensors, .h5 and run.json"});
}

}  // namespace lrq::io

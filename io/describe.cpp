#include "io/describe.h"

#include <algorithm>
#include <hdf5.h>
#include <vector>

#include "io/file_system.h"
#include "io/h5_handle.h"
#include "io/mapped_file.h"
#include "io/run_manifest.h"
#include "io/safetensors_header.h"
#include "io/tensor_file.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

std::string describe_safetensors(const fs::path& path) {
  const MappedFile file(path);
  const SafetensorsHeader header = parse_safetensors_header(file.bytes(), path);
  std::string text = concat(path.string(), ": safetensors, ", header.tensors.size(), " tensors, ",
                            format_bytes(file.bytes().size()), "\n");
  for (const auto& [key, value] : header.metadata) text += concat("  ", key, " = ", value, "\n");
  for (const auto& [name, entry] : header.tensors) {
    text +=
        concat("  ", name, "  ", c10::toString(entry.dtype), " ", format_list(entry.shape), "\n");
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
      return concat("int", bytes * 8);
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

std::string describe_hdf5(const fs::path& path) {
  h5_begin();
  const H5Handle file = h5_open(path);
  std::string text = concat(path.string(), ": HDF5, ", format_bytes(fs::file_size(path)), "\n");
  h5_check(H5Lvisit(file.id(), H5_INDEX_NAME, H5_ITER_INC, add_dataset, &text), "list the datasets",
           path.string());
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

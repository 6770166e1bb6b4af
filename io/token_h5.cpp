#include <hdf5.h>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "io/crc32c.h"
#include "io/h5_handle.h"
#include "io/token_formats.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDataset = "tokens";
constexpr const char* kChecksum = "crc32c";
constexpr std::uint64_t kMaxIds = std::uint64_t{1} << 34;  // 128 GiB as int64

[[noreturn]] void refuse_h5(const std::string& where, std::string what) {
  throw DataError({.what = std::move(what),
                   .where = where,
                   .fix = "write the ids as one integer dataset /tokens, 1-D or 2-D"});
}

herr_t collect_name(hid_t group, const char* name, const H5L_info_t* /*link*/, void* names) {
  H5O_info_t info{};
  if (H5Oget_info_by_name(group, name, &info, H5P_DEFAULT) < 0) return 0;  // a link to nowhere
  if (info.type == H5O_TYPE_DATASET) {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  }
  return 0;
}

std::string dataset_name(const H5Handle& file, const std::string& where) {
  std::vector<std::string> names;
  h5_check(H5Literate(file.id(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, &collect_name, &names),
           "list the datasets", where);
  for (const std::string& name : names) {
    if (name == kDataset) return name;
  }
  if (names.size() != 1) {
    refuse_h5(where, concat("file holds ", names.size(), " datasets [", join(names, ", "),
                            "] and none is /tokens"));
  }
  return names.front();
}

std::vector<std::int64_t> shape_of(const H5Handle& data, const std::string& where) {
  const H5Handle space(H5Dget_space(static_cast<hid_t>(data.id())), "get the space", where);
  const int axes = H5Sget_simple_extent_ndims(space.id());
  if (axes != 1 && axes != 2) refuse_h5(where, concat("dataset has ", axes, " axes, not 1 or 2"));
  std::vector<hsize_t> extent(static_cast<std::size_t>(axes));
  h5_check(H5Sget_simple_extent_dims(space.id(), extent.data(), nullptr), "get the shape", where);
  std::uint64_t count = 1;
  bool too_many = false;
  for (const hsize_t size : extent) {
    too_many |= __builtin_mul_overflow(count, std::uint64_t{size}, &count) || size > kMaxIds;
  }
  if (too_many || count > kMaxIds) {
    refuse_h5(where, concat("shape ", format_list(extent), " holds more than ", kMaxIds, " ids"));
  }
  return {extent.begin(), extent.end()};
}

/// Our own files carry a checksum of their int32 ids; others are taken as they are.
void verify(const H5Handle& data, const at::Tensor& ids, const std::string& where) {
  const htri_t found = H5Aexists(data.id(), kChecksum);
  if (h5_check(found, "look for the checksum", where) == 0) return;
  const H5Handle attribute(H5Aopen(data.id(), kChecksum, H5P_DEFAULT), "open the checksum", where);
  std::uint32_t expected = 0;
  h5_check(H5Aread(attribute.id(), H5T_NATIVE_UINT32, &expected), "read the checksum", where);
  const at::Tensor narrow = ids.to(at::kInt);
  const std::uint32_t actual =
      crc32c({static_cast<const std::byte*>(narrow.const_data_ptr()), narrow.nbytes()});
  if (actual != expected) {
    throw DataError({.what = concat("checksum of the ids is ", actual, ", not ", expected),
                     .where = where,
                     .fix = "the file is damaged: make it again with lrq-dist tokenize"});
  }
}

}  // namespace

at::Tensor read_tokens_h5(const fs::path& path) {
  h5_begin();
  const H5Handle file = h5_open(path);
  const std::string name = dataset_name(file, path.string());
  const std::string where = concat(path.string(), ", dataset /", name);
  const H5Handle data(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), "open the dataset", where);
  const H5Handle type(H5Dget_type(data.id()), "get the type", where);
  if (H5Tget_class(type.id()) != H5T_INTEGER) refuse_h5(where, "dataset does not hold integers");
  at::Tensor ids =
      at::empty(shape_of(data, where), at::TensorOptions().dtype(at::kLong).device(at::kCPU));
  // HDF5 widens; an unsigned value above int64 becomes the largest, which the range check refuses.
  h5_check(H5Dread(data.id(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                   ids.mutable_data_ptr<std::int64_t>()),
           "read the ids", where);
  verify(data, ids, where);
  return ids;
}

void write_tokens_h5(const fs::path& path, const at::Tensor& tokens) {
  h5_begin();
  const std::string where = concat(path.string(), ", dataset /", kDataset);
  H5OutputFile file(path);
  try {
    std::vector<hsize_t> extent;
    for (const std::int64_t size : tokens.sizes()) extent.push_back(static_cast<hsize_t>(size));
    const H5Handle space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr),
                         "make a space", where);
    const H5Handle list(H5Pcreate(H5P_DATASET_CREATE), "make dataset properties", where);
    // No time stamps: equal ids are equal bytes.
    h5_check(H5Pset_obj_track_times(list.id(), false), "switch time stamps off", where);
    const H5Handle data(H5Dcreate2(file.id(), kDataset, H5T_STD_I32LE, space.id(), H5P_DEFAULT,
                                   list.id(), H5P_DEFAULT),
                        "create the dataset", where);
    h5_check(H5Dwrite(data.id(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                      tokens.const_data_ptr()),
             "write the ids", where);
    const std::uint32_t checksum =
        crc32c({static_cast<const std::byte*>(tokens.const_data_ptr()), tokens.nbytes()});
    const H5Handle scalar(H5Screate(H5S_SCALAR), "make a space", where);
    const H5Handle attribute(
        H5Acreate2(data.id(), kChecksum, H5T_STD_U32LE, scalar.id(), H5P_DEFAULT, H5P_DEFAULT),
        "create the checksum", where);
    h5_check(H5Awrite(attribute.id(), H5T_NATIVE_UINT32, &checksum), "write the checksum", where);
    file.flush();
  } catch (...) {
    file.discard();
    throw;
  }
  file.close();
}

}  // namespace lrq::io

#include "io/activation_shard.h"

#include <array>
#include <bit>
#include <hdf5.h>

#include <ATen/ops/empty.h>

#include "io/crc32c.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
using Extent = std::array<hsize_t, 3>;
static_assert(std::endian::native == std::endian::little, "samples are written as they lie");

constexpr const char* kData = "/samples";
constexpr const char* kNumbers = "/sample";
constexpr const char* kChecksums = "/crc32c";

Extent extent_of(std::int64_t rows, const SampleShape& shape) {
  return {static_cast<hsize_t>(rows), static_cast<hsize_t>(shape.tokens),
          static_cast<hsize_t>(shape.hidden)};
}

std::uint32_t checksum(const at::Tensor& sample) {
  return crc32c(std::span(static_cast<const std::byte*>(sample.const_data_ptr()), sample.nbytes()));
}

/// Whole at creation, never filled, without time stamps: equal content is equal bytes.
H5Handle dataset_properties(const std::string& where) {
  H5Handle list(H5Pcreate(H5P_DATASET_CREATE), "make dataset properties", where);
  h5_check(H5Pset_layout(list.id(), H5D_CONTIGUOUS), "choose the layout", where);
  h5_check(H5Pset_alloc_time(list.id(), H5D_ALLOC_TIME_EARLY), "choose the allocation", where);
  h5_check(H5Pset_fill_time(list.id(), H5D_FILL_TIME_NEVER), "choose the fill", where);
  h5_check(H5Pset_obj_track_times(list.id(), false), "leave time stamps out", where);
  return list;
}

H5Handle create_dataset(const H5OutputFile& file, const char* name, H5Id type,
                        std::span<const hsize_t> extent, const std::string& path) {
  const std::string where = concat(path, ", dataset ", name);
  const H5Handle list = dataset_properties(where);
  const H5Handle space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr),
                       concat("make a space ", format_list(extent)), where);
  return {H5Dcreate2(file.id(), name, type, space.id(), H5P_DEFAULT, list.id(), H5P_DEFAULT),
          "create the dataset", where};
}

/// Select row `row` of a dataset [n, T, C].
H5Handle row_of(const H5Handle& space, std::size_t row, const SampleShape& shape,
                const std::string& where) {
  H5Handle selected(H5Scopy(space.id()), "copy a space", where);
  const Extent start = {row, 0, 0};
  const Extent count = extent_of(1, shape);
  h5_check(H5Sselect_hyperslab(selected.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                               nullptr),
           concat("select row ", row), where);
  return selected;
}

H5Handle row_in_memory(const SampleShape& shape, const std::string& where) {
  const Extent count = extent_of(1, shape);
  return {H5Screate_simple(3, count.data(), nullptr), "make a space", where};
}

class ShardWriterImpl final : public ShardWriter {
 public:
  ShardWriterImpl(FileSystem& files, const fs::path& path, const SampleShape& shape,
                  std::int64_t samples)
      : files_(files),
        path_(path),
        temporary_(temporary_path(path)),
        shape_(shape),
        rows_(samples),
        file_(temporary_),
        type_(h5_sample_type(shape.dtype)) {
    const Extent extent = extent_of(samples, shape);
    const std::string where = temporary_.string();
    data_ = create_dataset(file_, kData, type_.id(), extent, where);
    numbers_ = create_dataset(file_, kNumbers, H5T_STD_I32LE, std::span(extent).first(1), where);
    checksums_ =
        create_dataset(file_, kChecksums, H5T_STD_U32LE, std::span(extent).first(1), where);
    space_ = H5Handle(H5Dget_space(data_.id()), "get the space", where);
  }

  ShardWriterImpl(const ShardWriterImpl&) = delete;
  ShardWriterImpl& operator=(const ShardWriterImpl&) = delete;
  ~ShardWriterImpl() override {
    if (sealed_) return;
    file_.discard();  // so that the handles can be reset, whatever the disk says
    try {
      files_.remove(temporary_);
    } catch (...) {  // a temporary name is never read, so a left-over does no harm
    }
  }

  void write(std::int64_t sample, const at::Tensor& activation) override {
    check(sample, activation);
    h5_begin();
    const std::string where = concat(temporary_.string(), ", dataset ", kData, ", sample ", sample);
    const H5Handle row = row_of(space_, written_.size(), shape_, where);
    const H5Handle memory = row_in_memory(shape_, where);
    // The memory type is the file's, so HDF5 moves bits and converts nothing.
    h5_check(H5Dwrite(data_.id(), type_.id(), memory.id(), row.id(), H5P_DEFAULT,
                      activation.const_data_ptr()),
             "write a sample", where);
    written_.push_back(static_cast<std::int32_t>(sample));
    crcs_.push_back(checksum(activation));
  }

  void seal() override {
    expect(static_cast<std::int64_t>(written_.size()) == rows_,
           concat("a shard of ", rows_, " samples is sealed after ", written_.size()));
    h5_begin();
    const std::string where = temporary_.string();
    h5_check(
        H5Dwrite(numbers_.id(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, written_.data()),
        "write the samples' numbers", concat(where, ", dataset ", kNumbers));
    h5_check(
        H5Dwrite(checksums_.id(), H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, crcs_.data()),
        "write the checksums", concat(where, ", dataset ", kChecksums));
    file_.flush();
    data_.reset();
    numbers_.reset();
    checksums_.reset();
    file_.close();
    publish(files_, temporary_, path_);
    sealed_ = true;
  }

 private:
  void check(std::int64_t sample, const at::Tensor& activation) const {
    expect(static_cast<std::int64_t>(written_.size()) < rows_,
           concat("sample ", sample, " is one more than the ", rows_, " of this shard"));
    expect(activation.device().is_cpu() && activation.is_contiguous(),
           "a sample is written from contiguous host memory");
    expect(activation.scalar_type() == shape_.dtype, "a sample has the dtype of the store");
    expect(activation.dim() >= 2 && activation.size(-2) == shape_.tokens &&
               activation.size(-1) == shape_.hidden &&
               activation.numel() == shape_.tokens * shape_.hidden,
           concat("a sample has shape ", format_list(activation.sizes()), ", not [1, ",
                  shape_.tokens, ", ", shape_.hidden, "]"));
  }

  FileSystem& files_;  // Owns: borrowed from the store
  fs::path path_;
  fs::path temporary_;
  SampleShape shape_;
  std::int64_t rows_;
  H5OutputFile file_;  // before the handles: they are reset first
  H5Handle type_;
  H5Handle data_;
  H5Handle numbers_;
  H5Handle checksums_;
  H5Handle space_;
  std::vector<std::int32_t> written_;
  std::vector<std::uint32_t> crcs_;
  bool sealed_ = false;
};

}  // namespace

H5Handle h5_sample_type(at::ScalarType dtype) {
  h5_begin();
  if (dtype == at::kBFloat16) return h5_bfloat16_type();
  expect(dtype == at::kFloat, "activations are stored as float32 or bfloat16");
  return {H5Tcopy(H5T_IEEE_F32LE), "copy a type", "HDF5"};
}

std::unique_ptr<ShardWriter> make_shard_writer(FileSystem& files, const fs::path& path,
                                               const SampleShape& shape, std::int64_t samples) {
  return std::make_unique<ShardWriterImpl>(files, path, shape, samples);
}

ShardReader::ShardReader(const fs::path& path, const SampleShape& shape)
    : path_(path), shape_(shape), file_(h5_open(path)), type_(h5_sample_type(shape.dtype)) {
  const std::string where = concat(path.string(), ", dataset ", kData);
  data_ = H5Handle(H5Dopen2(file_.id(), kData, H5P_DEFAULT), "open the dataset", where);
  space_ = H5Handle(H5Dget_space(data_.id()), "get the space", where);
  check_shape();
  samples_ = read_list<std::int32_t>(kNumbers, H5T_NATIVE_INT32);
  checksums_ = read_list<std::uint32_t>(kChecksums, H5T_NATIVE_UINT32);
}

void ShardReader::check_shape() {
  const std::string where = concat(path_.string(), ", dataset ", kData);
  Extent found{};
  const int axes = H5Sget_simple_extent_ndims(space_.id());
  if (axes == 3) H5Sget_simple_extent_dims(space_.id(), found.data(), nullptr);
  rows_ = static_cast<std::int64_t>(found[0]);
  if (axes != 3 || found != extent_of(rows_, shape_)) {
    throw DataError(
        {.what = concat("shard of another run: samples of ", found[1], " tokens and ", found[2],
                        " channels, not ", shape_.tokens, " and ", shape_.hidden),
         .where = where,
         .fix = "remove that folder, or name another with --run"});
  }
  const H5Handle type(H5Dget_type(data_.id()), "get the type", where);
  if (h5_check(H5Tequal(type.id(), type_.id()), "compare types", where) == 0) {
    throw DataError({.what = concat("shard of another run: its samples are not ",
                                    shape_.dtype == at::kFloat ? "float32" : "bfloat16"),
                     .where = where,
                     .fix = "use the train.store of that run, or name another folder with --run"});
  }
}

template <typename T>
std::vector<T> ShardReader::read_list(const char* dataset, H5Id memory_type) const {
  const std::string where = concat(path_.string(), ", dataset ", dataset);
  const H5Handle list(H5Dopen2(file_.id(), dataset, H5P_DEFAULT), "open the dataset", where);
  const H5Handle space(H5Dget_space(list.id()), "get the space", where);
  const std::int64_t length =
      h5_check(H5Sget_simple_extent_npoints(space.id()), "get the length", where);
  if (length != rows_) {
    throw DataError({.what = concat("torn shard: ", length, " entries for ", rows_, " samples"),
                     .where = where,
                     .fix = "remove that file and run again with --resume: it is made again"});
  }
  std::vector<T> values(static_cast<std::size_t>(length));
  h5_check(H5Dread(list.id(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
           "read the dataset", where);
  return values;
}

at::Tensor ShardReader::read(std::size_t row) const {
  h5_begin();
  const std::string where =
      concat(path_.string(), ", dataset ", kData, ", sample ", samples_.at(row));
  at::Tensor sample =
      at::empty({1, shape_.tokens, shape_.hidden}, at::TensorOptions(at::kCPU).dtype(shape_.dtype));
  const H5Handle selected = row_of(space_, row, shape_, where);
  const H5Handle memory = row_in_memory(shape_, where);
  h5_check(H5Dread(data_.id(), type_.id(), memory.id(), selected.id(), H5P_DEFAULT,
                   sample.mutable_data_ptr()),
           "read a sample", where);
  const std::uint32_t found = checksum(sample);
  if (found != checksums_[row]) {
    throw DataError(
        {.what = concat("torn sample: its CRC32C is ", found, ", ", checksums_[row], " expected"),
         .where = where,
         .fix = "remove that file and run again with --resume: it is made again"});
  }
  return sample;
}

}  // namespace lrq::io

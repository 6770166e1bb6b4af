#include <array>
#include <cstdint>
#include <hdf5.h>
#include <limits>

#include "io/activation_shard.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

using Extent = std::array<hsize_t, 3>;

/// Rows that follow each other in a shard and lie `stride` samples apart in the run.
struct Run {
  std::size_t row = 0;
  std::size_t count = 1;
  std::int64_t sample = 0;
  std::int64_t stride = 1;
};

/// As few runs as a walk through the rows finds: one for a contiguous or an interleaved share.
std::vector<Run> runs_of(const std::vector<std::int32_t>& samples) {
  std::vector<Run> runs;
  for (std::size_t row = 0; row < samples.size(); row += runs.back().count) {
    Run run{.row = row, .sample = samples[row]};
    if (row + 1 < samples.size() && samples[row + 1] > samples[row]) {
      run.stride = samples[row + 1] - samples[row];
      while (row + run.count < samples.size() &&
             samples[row + run.count] - samples[row + run.count - 1] == run.stride) {
        ++run.count;
      }
    }
    runs.push_back(run);
  }
  return runs;
}

H5Handle space_of(const Extent& extent, const std::string& where) {
  return {H5Screate_simple(3, extent.data(), nullptr), "make a space", where};
}

void select(const H5Handle& space, std::int64_t start, std::int64_t stride, std::size_t count,
            const SampleShape& shape, const std::string& where) {
  const Extent from = {static_cast<hsize_t>(start), 0, 0};
  const Extent step = {static_cast<hsize_t>(stride), 1, 1};
  const Extent blocks = {count, 1, 1};
  const Extent block = {1, static_cast<hsize_t>(shape.tokens), static_cast<hsize_t>(shape.hidden)};
  h5_check(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, from.data(), step.data(), blocks.data(),
                               block.data()),
           "select samples", where);
}

void set_missing_to_nan(const H5Handle& list, const H5Handle& type, at::ScalarType dtype,
                        const std::string& where) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr std::uint16_t kBfloat16Nan = 0x7FC0;
  const void* value = &kNan;
  if (dtype == at::kBFloat16) value = &kBfloat16Nan;
  h5_check(H5Pset_fill_value(list.id(), type.id(), value), "set the fill value", where);
}

void map_shard(const H5Handle& list, const ShardReader& shard, const Extent& whole,
               const std::filesystem::path& run, const SampleShape& shape,
               const std::string& where) {
  const std::string source = shard.path().lexically_relative(run).generic_string();
  const Extent extent = {shard.samples().size(), whole[1], whole[2]};
  for (const Run& part : runs_of(shard.samples())) {
    const H5Handle to = space_of(whole, where);
    const H5Handle from = space_of(extent, where);
    select(to, part.sample, part.stride, part.count, shape, where);
    select(from, static_cast<std::int64_t>(part.row), 1, part.count, shape, where);
    h5_check(H5Pset_virtual(list.id(), to.id(), source.c_str(), "/samples", from.id()),
             concat("map ", source), where);
  }
}

}  // namespace

void write_virtual_dataset(const H5OutputFile& master, const std::string& name,
                           const std::filesystem::path& run, const std::vector<ShardReader>& shards,
                           const SampleShape& shape, std::int64_t samples) {
  const std::string where = concat((run / "activations.h5").string(), ", dataset ", name);
  const Extent whole = {static_cast<hsize_t>(samples), static_cast<hsize_t>(shape.tokens),
                        static_cast<hsize_t>(shape.hidden)};
  const H5Handle type = h5_sample_type(shape.dtype);
  const H5Handle list(H5Pcreate(H5P_DATASET_CREATE), "make dataset properties", where);
  h5_check(H5Pset_obj_track_times(list.id(), false), "leave time stamps out", where);
  set_missing_to_nan(list, type, shape.dtype, where);
  for (const ShardReader& shard : shards) map_shard(list, shard, whole, run, shape, where);
  const H5Handle links(H5Pcreate(H5P_LINK_CREATE), "make link properties", where);
  h5_check(H5Pset_create_intermediate_group(links.id(), 1), "ask for the group", where);
  const H5Handle space = space_of(whole, where);
  const H5Handle dataset(H5Dcreate2(master.id(), name.c_str(), type.id(), space.id(), links.id(),
                                    list.id(), H5P_DEFAULT),
                         "create the virtual dataset", where);
}

}  // namespace lrq::io

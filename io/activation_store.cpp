#include "io/activation_store.h"

#include <charconv>
#include <optional>
#include <set>
#include <string_view>

#include "io/activation_shard.h"
#include "io/h5_handle.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kSealed = ".h5";
constexpr std::string_view kRankPart = ".rank-";

fs::path shard_folder(const fs::path& run) { return run / "activations"; }

/// The boundary in "fp-017.rank-3.h5"; nothing for any other name, temporary ones included.
std::optional<Boundary> boundary_of(std::string_view name) {
  if (!name.ends_with(kSealed)) return std::nullopt;
  const std::size_t rank = name.find(kRankPart);
  const std::size_t dash = name.find('-');
  if (rank == std::string_view::npos || dash >= rank) return std::nullopt;
  int index = 0;
  const std::string_view digits = name.substr(dash + 1, rank - dash - 1);
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  const Boundary found{.chain = name.starts_with("fp-") ? Chain::kFullPrecision : Chain::kQuantized,
                       .index = BoundaryIndex{index}};
  // Only names that we would write ourselves.
  const bool ours = parsed.ec == std::errc() && name.substr(0, rank) == boundary_name(found);
  return ours ? std::optional(found) : std::nullopt;
}

std::vector<ShardReader> open_shards(const FileSystem& files, const fs::path& run,
                                     const Boundary& boundary, const SampleShape& shape) {
  std::vector<ShardReader> shards;
  for (const std::string& name : files.list(shard_folder(run))) {
    if (boundary_of(name) == boundary) shards.emplace_back(shard_folder(run) / name, shape);
  }
  return shards;
}

struct RowOfShard {
  std::size_t shard = 0;
  std::size_t row = 0;
};
using RowsOfShards = std::vector<std::optional<RowOfShard>>;

/// Where each sample lies.  Throws DataError if one is out of range or lies in two places.
RowsOfShards places_of(const std::vector<ShardReader>& shards, std::int64_t samples) {
  RowsOfShards places(static_cast<std::size_t>(samples));
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    const std::vector<std::int32_t>& numbers = shards[shard].samples();
    for (std::size_t row = 0; row < numbers.size(); ++row) {
      const std::int64_t sample = numbers[row];
      const bool inside = sample >= 0 && sample < samples;
      if (!inside || places[static_cast<std::size_t>(sample)]) {
        throw DataError(
            {.what = concat("shard of another division of the samples: it holds sample ", sample,
                            inside ? ", which another shard holds too"
                                   : concat(", the run has 0 .. ", samples - 1)),
             .where = concat(shards[shard].path().string(), ", dataset /sample"),
             .fix = "remove the shards of that boundary and run again with --resume"});
      }
      places[static_cast<std::size_t>(sample)] = RowOfShard{shard, row};
    }
  }
  return places;
}

class BoundaryReaderImpl final : public BoundaryReader {
 public:
  BoundaryReaderImpl(std::vector<ShardReader> shards, RowsOfShards places)
      : shards_(std::move(shards)), places_(std::move(places)) {}

  [[nodiscard]] at::Tensor read(std::int64_t sample) const override {
    expect(sample >= 0 && sample < static_cast<std::int64_t>(places_.size()),
           concat("sample ", sample, " of ", places_.size()));
    const RowOfShard place = places_[static_cast<std::size_t>(sample)].value();
    return shards_[place.shard].read(place.row);
  }

 private:
  std::vector<ShardReader> shards_;
  RowsOfShards places_;  // all of them set: open() looked
};

void require_all(const RowsOfShards& places, const fs::path& run, const Boundary& boundary) {
  for (std::size_t sample = 0; sample < places.size(); ++sample) {
    if (places[sample]) continue;
    throw DataError({.what = concat("no sealed shard holds sample ", sample, " of ", places.size()),
                     .where = concat(shard_folder(run).string(), ", ", boundary_name(boundary)),
                     .fix = "run again with --resume: missing activations are made again"});
  }
}

}  // namespace

std::string boundary_name(const Boundary& boundary) {
  return concat(boundary.chain == Chain::kFullPrecision ? "fp-" : "q-",
                padded(boundary.index.value, 3));
}

ActivationStore::ActivationStore(FileSystem& files, fs::path run, SampleShape shape)
    : files_(files), run_(std::move(run)), shape_(shape) {
  expect(shape.dtype == at::kFloat || shape.dtype == at::kBFloat16,
         "activations are stored as float32 or bfloat16");
}

ActivationStore::~ActivationStore() = default;

std::unique_ptr<ShardWriter> ActivationStore::create(const Boundary& boundary, Rank rank,
                                                     std::int64_t samples) {
  files_.create_directories(shard_folder(run_));
  const fs::path path =
      shard_folder(run_) / concat(boundary_name(boundary), kRankPart, rank.value, kSealed);
  return make_shard_writer(files_, path, shape_, samples);
}

std::unique_ptr<BoundaryReader> ActivationStore::open(const Boundary& boundary,
                                                      std::int64_t samples) const {
  std::vector<ShardReader> shards = open_shards(files_, run_, boundary, shape_);
  RowsOfShards places = places_of(shards, samples);
  require_all(places, run_, boundary);
  return std::make_unique<BoundaryReaderImpl>(std::move(shards), std::move(places));
}

bool ActivationStore::complete(const Boundary& boundary, std::int64_t samples) const {
  try {
    const std::unique_ptr<BoundaryReader> reader = open(boundary, samples);
    for (std::int64_t sample = 0; sample < samples; ++sample) {
      static_cast<void>(reader->read(sample));
    }
    return true;
  } catch (const DataError& error) {
    log_event(LogLevel::kDebug, "incomplete",
              concat("boundary=", boundary_name(boundary), " reason=\"", error.text().what, '"'));
    return false;
  }
}

void ActivationStore::remove(const Boundary& boundary) {
  const std::string prefix = boundary_name(boundary) + std::string(kRankPart);
  for (const std::string& name : files_.list(shard_folder(run_))) {
    if (name.starts_with(prefix)) files_.remove(shard_folder(run_) / name);
  }
}

void ActivationStore::write_master(std::int64_t samples) {
  std::set<Boundary> boundaries;
  for (const std::string& name : files_.list(shard_folder(run_))) {
    if (const auto boundary = boundary_of(name)) boundaries.insert(*boundary);
  }
  const fs::path path = run_ / "activations.h5";
  files_.create_directories(run_);
  H5OutputFile master(temporary_path(path));
  for (const Boundary& boundary : boundaries) {
    std::vector<ShardReader> shards;
    try {
      shards = open_shards(files_, run_, boundary, shape_);
      static_cast<void>(places_of(shards, samples));
    } catch (const DataError& error) {  // of no use to anyone; who needs it makes it again
      log_event(LogLevel::kWarning, "left_out",
                concat("boundary=", boundary_name(boundary), " reason=\"", error.text().what, '"'));
      continue;
    }
    const std::string name = concat(boundary.chain == Chain::kFullPrecision ? "/fp/" : "/q/",
                                    padded(boundary.index.value, 3));
    write_virtual_dataset(master, name, run_, shards, shape_, samples);
  }
  master.close();
  publish(files_, temporary_path(path), path);
}

}  // namespace lrq::io

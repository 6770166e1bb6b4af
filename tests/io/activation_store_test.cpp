#include "io/activation_store.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/fakes/crashing_file_system.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
constexpr Boundary kInput{.chain = Chain::kFullPrecision, .index = BoundaryIndex{0}};
constexpr Boundary kOther{.chain = Chain::kQuantized, .index = BoundaryIndex{8}};
constexpr std::int64_t kTokens = 3;
constexpr std::int64_t kHidden = 4;

/// Sample 5 holds 500.1, 501.1, ... rounded to the dtype.
at::Tensor sample(std::int64_t number, at::ScalarType dtype) {
  return (at::arange(kTokens * kHidden, at::kFloat).view({1, kTokens, kHidden}) +
          (static_cast<double>(number) * 100 + 0.1))
      .to(dtype);
}

class ActivationStoreTest : public testing::TestWithParam<at::ScalarType> {
 protected:
  [[nodiscard]] SampleShape shape() const { return {kTokens, kHidden, GetParam()}; }
  [[nodiscard]] ActivationStore store() { return {*files_, run(), shape()}; }
  [[nodiscard]] fs::path run() const { return scratch_.path() / "run"; }
  [[nodiscard]] fs::path shard(int rank) const {
    return run() / "activations" / concat("fp-000.rank-", rank, ".h5");
  }

  void seal(const Boundary& boundary, int rank, const std::vector<std::int64_t>& samples) {
    const auto writer =
        store().create(boundary, Rank{rank}, static_cast<std::int64_t>(samples.size()));
    for (const std::int64_t number : samples) writer->write(number, sample(number, GetParam()));
    writer->seal();
  }

  ScratchFolder scratch_;
  std::unique_ptr<FileSystem> files_ = make_posix_file_system();
};

INSTANTIATE_TEST_SUITE_P(Dtypes, ActivationStoreTest, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& dtype) { return std::string(at::toString(dtype.param)); });

TEST_P(ActivationStoreTest, SamplesOfAllShardsComeBackBitForBit) {
  seal(kInput, 0, {0, 3});
  seal(kInput, 1, {2, 1, 4});
  const auto reader = store().open(kInput, 5);
  for (std::int64_t number = 4; number >= 0; --number) {
    const at::Tensor found = reader->read(number);
    EXPECT_EQ(found.scalar_type(), GetParam());
    EXPECT_EQ(found.sizes(), (std::vector<std::int64_t>{1, kTokens, kHidden}));
    EXPECT_TRUE(at::equal(found, sample(number, GetParam()))) << number;
  }
  EXPECT_NE(reader->read(1).const_data_ptr(), reader->read(1).const_data_ptr());
  EXPECT_TRUE(store().complete(kInput, 5));
}

TEST_P(ActivationStoreTest, SampleSetMustBeExact) {
  EXPECT_FALSE(store().complete(kInput, 1));
  seal(kInput, 0, {0, 1});
  EXPECT_TRUE(store().complete(kInput, 2));
  EXPECT_FALSE(store().complete(kInput, 3));  // one is missing
  EXPECT_FALSE(store().complete(kInput, 1));  // one is too many
  EXPECT_FALSE(store().complete(kOther, 2));
  EXPECT_THROW(static_cast<void>(store().open(kInput, 3)), DataError);
  seal(kInput, 1, {1, 2});
  EXPECT_FALSE(store().complete(kInput, 3));  // one lies in two shards
}

TEST_P(ActivationStoreTest, RankWithoutSamplesSealsAnEmptyShard) {
  seal(kInput, 0, {0, 1});
  seal(kInput, 1, {});
  EXPECT_TRUE(store().complete(kInput, 2));
  EXPECT_NO_THROW(store().write_master(2));
}

TEST_P(ActivationStoreTest, OtherShapeOrDtypeIsRefused) {
  seal(kInput, 0, {0});
  for (const SampleShape other :
       {SampleShape{kTokens + 1, kHidden, GetParam()},
        SampleShape{kTokens, kHidden * 2, GetParam()},
        SampleShape{kTokens, kHidden, GetParam() == at::kFloat ? at::kBFloat16 : at::kFloat}}) {
    const ActivationStore stranger(*files_, run(), other);
    EXPECT_FALSE(stranger.complete(kInput, 1));
    EXPECT_THROW(static_cast<void>(stranger.open(kInput, 1)), DataError);
  }
}

TEST_P(ActivationStoreTest, UnsealedShardIsNoShardAndGoesWithItsWriter) {
  {
    const auto writer = store().create(kInput, Rank{0}, 2);
    writer->write(0, sample(0, GetParam()));
    EXPECT_TRUE(fs::exists(shard(0).string() + ".tmp"));
    EXPECT_FALSE(store().complete(kInput, 1));
    EXPECT_THROW(writer->seal(), BugError);  // one of two samples
  }
  EXPECT_TRUE(fs::is_empty(run() / "activations"));
}

TEST_P(ActivationStoreTest, RerunOverwrites) {
  std::ofstream(scratch_.path() / "x") << "left over";
  fs::create_directories(run() / "activations");
  fs::rename(scratch_.path() / "x", shard(0).string() + ".tmp");
  seal(kInput, 0, {0, 1, 2});
  const std::string first = files_->read(shard(0));
  seal(kInput, 0, {1, 0});
  EXPECT_TRUE(store().complete(kInput, 2));
  seal(kInput, 0, {0, 1, 2});
  EXPECT_EQ(files_->read(shard(0)), first) << "equal content is equal bytes";
}

TEST_P(ActivationStoreTest, EveryFlippedByteOfASampleIsNoticed) {
  seal(kInput, 0, {0});
  const std::string whole = files_->read(shard(0));
  const at::Tensor written = sample(0, GetParam());
  const std::string data(static_cast<const char*>(written.const_data_ptr()), written.nbytes());
  const std::size_t start = whole.find(data);
  ASSERT_NE(start, std::string::npos) << "the bits of the sample lie in the file as they are";
  for (std::size_t i = 0; i < data.size(); ++i) {
    std::string torn = whole;
    torn[start + i] = static_cast<char>(torn[start + i] ^ 0x10);
    files_->write(shard(0), std::as_bytes(std::span(torn.data(), torn.size())));
    EXPECT_FALSE(store().complete(kInput, 1)) << "byte " << i;
  }
  const auto reader = store().open(kInput, 1);
  try {
    static_cast<void>(reader->read(0));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("CRC32C"), std::string::npos);
    EXPECT_NE(error.text().where.find("fp-000.rank-0.h5, dataset /samples, sample 0"),
              std::string::npos);
  }
}

TEST_P(ActivationStoreTest, TruncatedShardIsWorkToRedoWithHdf5sOwnText) {
  seal(kInput, 0, {0, 1});
  const std::string whole = files_->read(shard(0));
  for (std::size_t length = 0; length < whole.size(); length += 64) {
    files_->write(shard(0), std::as_bytes(std::span(whole.data(), length)));
    EXPECT_FALSE(store().complete(kInput, 2)) << length << " of " << whole.size() << " bytes";
  }
  try {
    static_cast<void>(store().open(kInput, 2));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("HDF5 says: "), std::string::npos);
    EXPECT_NE(error.text().what.find("truncated file"), std::string::npos) << error.text().what;
  }
}

TEST_P(ActivationStoreTest, CrashWhileSealingLeavesNoShardOrAWholeOne) {
  for (int call = 1, finished = 0; finished == 0; ++call) {
    fs::remove_all(run());
    CrashingFileSystem dying(*files_, call);
    try {
      ActivationStore dying_store(dying, run(), shape());
      const auto writer = dying_store.create(kInput, Rank{0}, 1);
      writer->write(0, sample(0, GetParam()));
      writer->seal();
      finished = 1;
    } catch (const SimulatedCrash&) {
    }
    EXPECT_EQ(store().complete(kInput, 1), fs::exists(shard(0))) << "crash at call " << call;
    EXPECT_TRUE(finished == 0 || store().complete(kInput, 1));
  }
}

TEST_P(ActivationStoreTest, RemoveTakesAllShardsOfOneBoundary) {
  seal(kInput, 0, {0});
  seal(kInput, 11, {1});
  seal(kOther, 0, {0});
  std::ofstream(shard(3).string() + ".tmp") << "left over";
  store().remove(kInput);
  EXPECT_EQ(files_->list(run() / "activations"), std::vector<std::string>{"q-008.rank-0.h5"});
}

TEST_P(ActivationStoreTest, H5pyReadsMasterAndShard) {
  const char* chosen = std::getenv("LRQ_PYTHON");
  const std::string python = chosen != nullptr ? chosen : LRQ_PYTHON;
  seal(kInput, 0, {0, 2, 4});     // interleaved
  seal(kInput, 1, {1, 3});        // interleaved
  seal(kInput, 2, {7, 5, 6});     // in no order
  seal(kOther, 0, {0, 1, 2, 3});  // contiguous, and the rest is missing
  store().write_master(8);
  // Nothing may hang on the folder where the run was made.
  const fs::path moved = scratch_.path() / "moved";
  fs::rename(run(), moved);
  const auto h5py_agrees = [&](const Boundary& boundary, const char* dataset,
                               const char* shard_name, std::int64_t present) {
    std::ofstream raw(scratch_.path() / "raw", std::ios::binary);
    for (std::int64_t number = 0; number < 8; ++number) {
      const at::Tensor values = number < present ? sample(number, GetParam()).to(at::kFloat)
                                                 : at::full({1, kTokens, kHidden}, NAN, at::kFloat);
      raw.write(static_cast<const char*>(values.const_data_ptr()),
                static_cast<std::streamsize>(values.nbytes()));
    }
    raw.close();
    const std::string command = concat(
        python, " ", LRQ_READ_WITH_H5PY, " ", (moved / "activations.h5").string(), " ", dataset,
        " ", (moved / "activations" / shard_name).string(), " ", (scratch_.path() / "raw").string(),
        " ", GetParam() == at::kFloat ? "float32" : "bfloat16", " 8 ", kTokens, " ", kHidden);
    EXPECT_EQ(std::system(command.c_str()), 0) << boundary_name(boundary) << ": " << command;
  };
  h5py_agrees(kInput, "/fp/000", "fp-000.rank-2.h5", 8);
  h5py_agrees(kOther, "/q/008", "q-008.rank-0.h5", 4);
}

TEST(BoundaryNameTest, NamesChainAndIndex) {
  EXPECT_EQ(boundary_name(kInput), "fp-000");
  EXPECT_EQ(boundary_name({Chain::kQuantized, BoundaryIndex{17}}), "q-017");
}

}  // namespace
}  // namespace lrq::io

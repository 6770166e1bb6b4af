// The folder as a whole: what is in it, and what is left of it when something goes wrong.
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "io/checkpoint_reader.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/export/registry.h"
#include "src/models/learnables.h"
#include "tests/dist/threads.h"
#include "tests/fakes/crashing_file_system.h"
#include "tests/fakes/full_file_system.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::exporter {
namespace {

namespace fs = std::filesystem;
constexpr const char* kModel = LRQ_TEST_DATA "/stories260k";

/// A finished run on the tiny model: 6 bits, a scale on the norms, no shift.
class HfTest : public testing::Test {
 protected:
  void SetUp() override {
    recipe_.weights.bits = 6;
    recipe_.weights.clip = recipe::ClipKind::kNone;
    io::BlockStateStore states(*disk_, run());
    for (int block = 0; block < 5; ++block) {
      io::TensorFile state;
      state.tensors[models::scale_name("qkv", models::Parametrization::kLog)] =
          at::full({64}, 0.1 * block);
      states.save_block(BlockIndex{block}, state);
    }
  }

  [[nodiscard]] fs::path run() const { return scratch_.path() / "run"; }
  [[nodiscard]] fs::path out() const { return scratch_.path() / "out"; }

  Report write(io::FileSystem& files, const Target& target, dist::Transport& transport) {
    const pipeline::ModelSource model(kModel);
    const io::BlockStateStore states(files, run());
    return export_hf({.transport = transport,
                      .files = files,
                      .model = model,
                      .recipe = recipe_,
                      .states = states,
                      .run = {{"seed", "2"}},
                      .version = "test",
                      .target = target});
  }
  Report write(io::FileSystem& files, const Target& target, int ranks = 1) {
    Report report;
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& transport) {
      Report mine = write(files, target, transport);
      if (transport.rank().value == 0) report = std::move(mine);
    });
    return report;
  }
  Report write(const Target& target) { return write(*disk_, target); }
  [[nodiscard]] Target target(std::size_t max_shard_bytes = 5'000'000'000) const {
    return {.out = out(), .dtype = {}, .max_shard_bytes = max_shard_bytes, .overwrite = false};
  }

  [[nodiscard]] std::map<std::string, std::string> content(const fs::path& folder) const {
    std::map<std::string, std::string> found;
    for (const std::string& name : disk_->list(folder)) found[name] = disk_->read(folder / name);
    return found;
  }

  ScratchFolder scratch_;
  std::unique_ptr<io::FileSystem> disk_ = io::make_posix_file_system();
  recipe::Recipe recipe_;
};

TEST_F(HfTest, CopiesWhatIsNotFoldedBitForBit) {
  const Report report = write(target());
  EXPECT_EQ(report.shards, std::vector<std::string>{"model.safetensors"});
  EXPECT_TRUE(report.left_out.empty());
  const auto found = content(out());
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "tokenizer.model", "generation_config.json", "LICENCE.md"}) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_EQ(found.at(name), disk_->read(fs::path(kModel) / name)) << name;
  }
  EXPECT_EQ(found.size(), 6U + 3U) << "and the weights, config.json, lrq_dist.json";
  const auto source = io::open_checkpoint(kModel);
  const auto written = io::open_checkpoint(out());
  EXPECT_EQ(written->names(), source->names());
  for (const auto& [name, shape] : std::map<std::string, std::vector<std::int64_t>>{
           {"model.embed_tokens.weight", {512, 64}},
           {"model.norm.weight", {64}},
           {"model.layers.2.post_attention_layernorm.weight", {64}}}) {
    EXPECT_TRUE(
        at::equal(written->read(name, shape, at::kFloat), source->read(name, shape, at::kFloat)))
        << name;
  }
  const char* norm = "model.layers.2.input_layernorm.weight";
  EXPECT_TRUE(at::allclose(written->read(norm, {64}, at::kFloat),
                           source->read(norm, {64}, at::kFloat) / std::exp(0.2), 1e-6, 0.0));
}

TEST_F(HfTest, IsTheSameOnAnyNumberOfRanksAndOnARepeat) {
  static_cast<void>(write(target(200'000)));
  const auto expected = content(out());
  EXPECT_TRUE(expected.contains("model.safetensors.index.json"));
  for (const int ranks : {2, 3, 8}) {
    Target other = target(200'000);
    other.out = scratch_.path() / concat("on-", ranks);
    const Report report = write(*disk_, other, ranks);
    EXPECT_GE(report.shards.size(), 5U);
    EXPECT_EQ(content(other.out), expected) << ranks;
  }
  Target again = target(200'000);
  again.overwrite = true;
  static_cast<void>(write(again));
  EXPECT_EQ(content(out()), expected);
}

TEST_F(HfTest, WritesTheDtypeThatIsAskedForAndRefusesOneTooSmall) {
  Target half = target();
  half.dtype = at::kHalf;
  static_cast<void>(write(half));
  EXPECT_EQ(io::open_checkpoint(out())->dtype("model.norm.weight"), at::kHalf);
  EXPECT_NE(disk_->read(out() / "config.json").find("\"float16\""), std::string::npos);

  io::BlockStateStore states(*disk_, run());
  io::TensorFile state;
  state.tensors[models::scale_name("qkv", models::Parametrization::kLog)] = at::full({64}, 14.0);
  states.save_block(BlockIndex{3}, state);  // weights of about 1 times e^14
  half.out = scratch_.path() / "too-large";
  try {
    static_cast<void>(write(half));
    FAIL() << "nothing thrown";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().where.find("model.layers.3.self_attn"), std::string::npos);
    EXPECT_NE(error.text().fix.find("bfloat16"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(half.out));
  EXPECT_FALSE(fs::exists(io::temporary_path(half.out)));
}

TEST_F(HfTest, NamesWhatItLeavesOut) {
  recipe_.activations.bits = 6;
  recipe_.activations.kv_bits = 4;
  EXPECT_EQ(write(target()).left_out,
            (std::vector<std::string>{"activations.bits = 6 is left out: inputs of the linears and "
                                      "queries are not quantized",
                                      "activations.kv_bits = 4 is left out: keys and values are "
                                      "not quantized"}));
}

TEST_F(HfTest, LeavesTheFoldersOfTheUserAlone) {
  Target overwriting = target();
  overwriting.overwrite = true;
  fs::create_directories(out() / "photographs");
  EXPECT_THROW(static_cast<void>(write(target())), UsageError);
  EXPECT_THROW(static_cast<void>(write(overwriting)), UsageError);
  disk_->write(out() / "lrq_dist.json", {});
  EXPECT_THROW(static_cast<void>(write(overwriting)), UsageError) << "an export has no folders";
  fs::remove(out() / "photographs");
  fs::create_directories(out().string() + ".tmp/photographs");
  EXPECT_THROW(static_cast<void>(write(overwriting)), UsageError);
  EXPECT_TRUE(fs::exists(out().string() + ".tmp/photographs"));
  overwriting.out = kModel;
  EXPECT_THROW(static_cast<void>(write(overwriting)), UsageError);
}

TEST_F(HfTest, AFullDiskLeavesNothing) {
  for (const std::size_t room : {0U, 1000U, 500'000U, 1'050'000U}) {
    io::FullFileSystem full(*disk_, room);
    EXPECT_THROW(static_cast<void>(write(full, target())), DataError) << room;
    EXPECT_FALSE(fs::exists(out())) << room;
    EXPECT_FALSE(fs::exists(io::temporary_path(out()))) << room;
  }
}

TEST_F(HfTest, ACrashLeavesTheOldExportOrTheNewOne) {
  static_cast<void>(write(target(400'000)));
  const auto first = content(out());
  recipe_.weights.bits = 4;
  Target again = target(400'000);
  again.out = scratch_.path() / "elsewhere";
  static_cast<void>(write(again));
  const auto second = content(again.out);
  again.out = out();
  again.overwrite = true;
  bool survived = false;
  int kept = 0;
  for (int call = 1; !survived; call += 5) {
    io::CrashingFileSystem dying(*disk_, call);
    try {
      static_cast<void>(write(dying, again));
      survived = true;
    } catch (const io::SimulatedCrash&) {
      survived = false;
    }
    const auto found = content(out());
    kept += found == first ? 1 : 0;
    // Between two renames the old one lies beside; nothing half-written ever has the name.
    EXPECT_TRUE(found.empty() || found == first || found == second) << "crash at call " << call;
  }
  EXPECT_GT(kept, 10);
  EXPECT_EQ(content(out()), second);
}

TEST(ExportFormatsTest, AnUnknownOneIsRefusedWithThoseThatExist) {
  EXPECT_EQ(find_format("hf").name, "hf");
  try {
    static_cast<void>(find_format("onnx"));
    FAIL() << "nothing thrown";
  } catch (const UsageError& error) {
    EXPECT_NE(error.text().fix.find("hf"), std::string::npos);
  }
}

}  // namespace
}  // namespace lrq::exporter

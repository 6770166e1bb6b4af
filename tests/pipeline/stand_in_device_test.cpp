// Runs of a device that is not the CPU, with values: what the meta device cannot show.  A tensor
// that is left in host memory on the way ends the test in an error.
#include "tests/fakes/stand_in_device.h"

#include <map>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "io/block_state_store.h"
#include "io/token_file.h"
#include "src/base/log.h"
#include "src/eval/evaluator.h"
#include "src/pipeline/calibration.h"
#include "src/pipeline/cluster_calibration.h"
#include "src/pipeline/gptq_rounding.h"
#include "tests/dist/threads.h"
#include "tests/fakes/scratch_folder.h"
#include "tests/pipeline/device_scene.h"

namespace lrq::pipeline {
namespace {

using models::NamedTensors;
using models::SmallBlock;

const at::Device kCpu = at::kCPU;

double distance(const at::Tensor& found, const at::Tensor& reference) {
  const at::Tensor other = reference.to(at::kCPU, at::kDouble);
  const at::Tensor difference = found.to(at::kCPU, at::kDouble) - other;
  return (difference.norm() / other.norm().clamp_min(1e-6)).item<double>();
}

struct Scene {
  explicit Scene(const char* family = "llama")
      : block(models::small_config(family, std::string(family) == "opt" ? 4 : 2,
                                   std::string(family) == "opt"),
              at::kFloat) {
    for (int i = 0; i < 4; ++i) samples.push_back(block.normal({1, 6, 16}).to(at::kFloat));
  }
  SmallBlock block;
  std::vector<at::Tensor> samples;
};

TEST(StandInDeviceTest, ATensorInHostMemoryIsRefused) {
  const at::Tensor x = at::ones({3}, at::device(stand_in_device()).dtype(at::kFloat));
  EXPECT_TRUE(at::equal((x * 2.0 + 1.0).to(at::kCPU), at::full({3}, 3.0F)));
  EXPECT_THROW((void)(x + at::ones({3}, at::device(at::kCPU).dtype(at::kFloat))), c10::Error);
  EXPECT_THROW((void)(x + at::ones({}, at::device(at::kCPU).dtype(at::kFloat))), c10::Error);
}

// The CPU's quantizers are fused kernels, whose last bit may differ; nothing else does.
TEST(StandInDeviceTest, EveryPhaseOfABlockGivesTheCpusValues) {
  for (const char* family : {"llama", "opt"}) {
    const Scene scene(family);
    for (const RecipeCase& which : device_recipes()) {
      SCOPED_TRACE(std::string(family) + ", " + which.name);
      const recipe::Recipe recipe = shipped_recipe(which.name, which.changes);
      std::map<std::string, NamedTensors> made;
      for (const at::Device device : {kCpu, stand_in_device()}) {
        BlockOnDevice run(scene.block, recipe, device);
        run.measure(scene.samples);
        NamedTensors start = run.start({});
        if (!run.method().map.none()) {
          start.merge(models::build_site_maps(*scene.block.family, run.weights(), start,
                                              run.method(), std::span(run.inputs).first(2),
                                              at::kFloat, {.seed = 2}));
        }
        BlockTrainer trainer = run.learn(start);
        run.freeze(trainer.learnables());
        NamedTensors all = run.made(trainer);
        for (const auto& [name, tensor] : all) {
          const bool learnable = name.starts_with("learnable.");
          const bool host = models::read_by_host(learnable ? name.substr(10) : name);
          EXPECT_EQ(tensor.device(), host ? kCpu : device) << name;
        }
        BlockTrainer again(*scene.block.family, run.weights(), start,
                           {.recipe = recipe, .steps = 2});
        again.restore(models::on_device(trainer.state(), at::kCPU));
        for (const auto& [name, tensor] : again.state()) {
          EXPECT_TRUE(at::equal(tensor, all.at(name))) << name;
        }
        all.erase("best.loss");  // infinite before the first epoch's end
        const LossSummary summary = trainer.end_epoch();
        EXPECT_EQ(summary.masked, 0);
        all["summary"] = at::full({}, summary.loss, at::device(at::kCPU).dtype(at::kDouble));
        made[device.str()] = std::move(all);
      }
      const NamedTensors& cpu = made.at("cpu");
      const NamedTensors& other = made.at(stand_in_device().str());
      ASSERT_EQ(cpu.size(), other.size());
      for (const auto& [name, tensor] : cpu) {
        EXPECT_LT(distance(other.at(name), tensor), 0.01) << name;
      }
    }
  }
}

BlockSamples samples_on(const Scene& scene, const NamedTensors& weights,
                        const recipe::Recipe& recipe, at::Device device) {
  return {.family = *scene.block.family,
          .weights = weights,
          .recipe = recipe,
          .samples = static_cast<std::int64_t>(scene.samples.size()),
          .read = [&scene, device](std::int64_t i) {
            return scene.samples[static_cast<std::size_t>(i)].to(device);
          }};
}

TEST(StandInDeviceTest, ClustersAndGptqGiveTheCpusCodes) {
  for (const char* family : {"llama", "opt"}) {
    const Scene scene(family);
    const recipe::Recipe recipe =
        shipped_recipe("rptq-w4a4", {"clusters.norms=4", "clusters.heads=2", "clusters.mlp=5",
                                     "clusters.min_cluster=1", "weights.rounding=gptq"});
    std::map<std::string, NamedTensors> found;
    for (const at::Device device : {kCpu, stand_in_device()}) {
      const NamedTensors weights = models::on_device(scene.block.weights, device);
      const BlockSamples block = samples_on(scene, weights, recipe, device);
      NamedTensors state = calibrated_clusters(block, {}, {.seed = 2, .block = 1});
      state.merge(gptq_codes(block, state));
      const auto method = block_method(recipe);
      const auto folded = models::fold(*scene.block.family, weights, state, method, at::kFloat);
      state["output"] = scene.block.family->forward(
          folded, block.read(0), models::quantizing_sites(*scene.block.family, method, folded));
      found[device.str()] = std::move(state);
    }
    const NamedTensors& other = found.at(stand_in_device().str());
    ASSERT_EQ(found.at("cpu").size(), other.size());
    for (const auto& [name, tensor] : found.at("cpu")) {
      EXPECT_EQ(other.at(name).is_cpu(), models::read_by_host(name)) << name;
      EXPECT_LT(distance(other.at(name), tensor), 1e-3) << name;
    }
  }
}

/// Whole runs of the 260K-parameter model, with ranks as threads of this process.
class StandInRunTest : public testing::Test {
 protected:
  StandInRunTest() {
    start_log(Rank{0}, LogLevel::kOff);
    const auto files = io::make_posix_file_system();
    const std::filesystem::path tokens = scratch_.path() / "tokens.npy";
    io::write_token_file(*files, tokens, ids());
    request_.texts = {tokens.string()};
    request_.samples = 4;
    request_.tokens = 16;
  }

  static constexpr int kBlocks = 4;

  static at::Tensor ids() {
    const auto host = at::device(at::kCPU).dtype(at::kInt);
    return (at::arange(4 * 16, host) * 37 % 509 + 3).to(at::kInt).view({4, 16});
  }

  /// On every rank: a model on the device and a transport for its tensors.
  template <typename Work>
  static void on_ranks(int ranks, at::Device device, Work work) {
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& hosts) {
      const auto transport = make_stand_in_transport(hosts);
      const ModelSource model(LRQ_TEST_DATA "/stories260k", kBlocks, device);
      work(*transport, model);
    });
  }

  /// Every block's tensors after a run.
  NamedTensors blocks_of(const std::string& name, int ranks, at::Device device) {
    request_.run = scratch_.path() / name;
    const auto files = io::make_posix_file_system();
    on_ranks(ranks, device, [&](dist::Transport& transport, const ModelSource& model) {
      (void)calibrate(transport, *files, model, request_);
    });
    const io::BlockStateStore states(*files, request_.run);
    NamedTensors all;
    for (int block = 0; block < kBlocks; ++block) {
      for (const auto& [key, tensor] : states.load_block(BlockIndex{block}).tensors) {
        all[std::to_string(block) + " " + key] = tensor;
      }
    }
    return all;
  }

  /// Mean loss of the windows, plain and with the last block adapted.
  std::vector<double> losses_of(int ranks, at::Device device) {
    std::vector<double> losses;
    const auto files = io::make_posix_file_system();
    on_ranks(ranks, device, [&](dist::Transport& transport, const ModelSource& model) {
      const io::BlockStateStore states(*files, request_.run);
      eval::Evaluator evaluator(transport,
                                {.model = model, .recipe = &request_.recipe, .states = &states});
      const bool first = transport.rank().value == 0;
      const auto found = evaluator.adapted_window_losses(first ? ids() : at::Tensor());
      if (!first) return;
      losses = found.plain;
      losses.insert(losses.end(), found.adapted.begin(), found.adapted.end());
    });
    return losses;
  }

  ScratchFolder scratch_;
  CalibrationRequest request_;
};

bool same(const NamedTensors& a, const NamedTensors& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (!b.contains(name) || !at::equal(tensor, b.at(name))) return false;
  }
  return true;
}

TEST_F(StandInRunTest, CalibratesAndEvaluatesAsOnTheCpuOnAnyNumberOfRanks) {
  request_.recipe =
      shipped_recipe("lrquant-w4a8", {"train.epochs=2", "train.wave=2", "train.batch_size=2",
                                      "train.keep_best=true", "tta.epochs=1"});
  const NamedTensors cpu = blocks_of("cpu", 1, kCpu);
  const std::vector<double> cpu_losses = losses_of(1, kCpu);
  const NamedTensors one = blocks_of("one", 1, stand_in_device());
  const std::vector<double> one_losses = losses_of(1, stand_in_device());
  ASSERT_EQ(one.size(), cpu.size());
  for (const auto& [name, tensor] : cpu) {
    // AdamW turns the last bits of a gradient near zero into a step as large as any other.
    EXPECT_LT((one.at(name) - tensor).abs().mean().item<double>(), 2e-3) << name;
  }
  ASSERT_EQ(one_losses.size(), cpu_losses.size());
  for (std::size_t i = 0; i < cpu_losses.size(); ++i) {
    EXPECT_NEAR(one_losses[i], cpu_losses[i], 0.02) << i;
  }
  EXPECT_TRUE(same(blocks_of("four", 4, stand_in_device()), one)) << "two stages of two replicas";
  EXPECT_EQ(losses_of(2, stand_in_device()), one_losses);
}

TEST_F(StandInRunTest, GoesOnAtACutAfterAStop) {
  request_.recipe =
      shipped_recipe("lrquant-plus-w4a4", {"train.epochs=2", "train.wave=5", "loss.balance=ema"});
  request_.compute = at::kBFloat16;  // what a run on a GPU takes by itself
  const NamedTensors whole = blocks_of("whole", 2, stand_in_device());
  int asked = 0;
  request_.stop_asked = [&asked] { return ++asked > 4; };
  request_.run = scratch_.path() / "stopped";
  const auto files = io::make_posix_file_system();
  on_ranks(2, stand_in_device(), [&](dist::Transport& transport, const ModelSource& model) {
    EXPECT_TRUE(calibrate(transport, *files, model, request_).stopped);
  });
  request_.stop_asked = [] { return false; };
  request_.resume = true;
  EXPECT_TRUE(same(blocks_of("stopped", 1, stand_in_device()), whole));
}

TEST_F(StandInRunTest, BuildsMapsFromItsOwnTokensAndRoundsByGptq) {
  request_.recipe = shipped_recipe(
      "ruquant-lh-w4a4", {"train.epochs=1", "train.wave=1", "rotation.calib=tokens",
                          "rotation.steps=2", "weights.rounding=gptq", "gptq.act_order=true"});
  const NamedTensors cpu = blocks_of("cpu", 1, kCpu);
  const NamedTensors other = blocks_of("other", 2, stand_in_device());
  ASSERT_EQ(other.size(), cpu.size());
  for (const auto& [name, tensor] : cpu) {
    // Later ones follow from what has been quantized, where the fused kernels' last bits differ.
    if (name == "0 map.qkv_in.00.rotation" || name == "0 map.qkv_in.01.permutation") {
      EXPECT_LT(distance(other.at(name), tensor), 1e-4) << name;
    }
    EXPECT_EQ(other.at(name).sizes(), tensor.sizes()) << name;
  }
}

}  // namespace
}  // namespace lrq::pipeline

#include "src/pipeline/sample_share.h"

#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "dist/collectives.h"
#include "src/pipeline/block_samples.h"
#include "src/pipeline/cluster_calibration.h"
#include "src/pipeline/gptq_rounding.h"
#include "tests/dist/threads.h"
#include "tests/models/small_block.h"
#include "tests/pipeline/shipped_recipe.h"

namespace lrq::pipeline {
namespace {

TEST(SampleShareTest, AsManyRanksShareAsTheTreeOfSumsHasEqualParts) {
  EXPECT_EQ(sharing_ranks(1, 128), 1);
  EXPECT_EQ(sharing_ranks(3, 128), 2);
  EXPECT_EQ(sharing_ranks(4, 16), 4);
  EXPECT_EQ(sharing_ranks(80, 128), 8);
  EXPECT_EQ(sharing_ranks(80, 4), 4);
  EXPECT_EQ(sharing_ranks(80, 6), 1);  // six chunks: ((01)(23))(45)
}

TEST(SampleShareTest, PartsFollowEachOtherAndHoldAllSamples) {
  for (const std::int64_t samples : {8, 12, 17, 128}) {
    for (const int count : {1, 2, 4, 8}) {
      std::int64_t next = 0;
      for (int place = 0; place < count; ++place) {
        const quant::IndexRange part = SampleShare{.count = count, .place = place}.of(samples);
        EXPECT_EQ(part.first, next);
        EXPECT_GT(part.count, 0);
        next += part.count;
      }
      EXPECT_EQ(next, samples);
    }
  }
}

using models::NamedTensors;

/// One block and twelve samples, clustered and rounded by ranks as threads.
struct SharedBlock {
  SharedBlock() : block(2) {
    for (int i = 0; i < 12; ++i) inputs.push_back(block.normal({1, 6, 16}).to(at::kFloat));
  }

  /// reads: how many samples each rank has read.
  NamedTensors state_of(int place, const SampleShare& share, std::vector<int>& reads) const {
    const c10::NoGradGuard no_grad;
    const BlockSamples samples{.family = *block.family,
                               .weights = block.weights,
                               .recipe = recipe,
                               .samples = 12,
                               .read =
                                   [&, place](std::int64_t i) {
                                     ++reads[static_cast<std::size_t>(place)];
                                     return inputs[static_cast<std::size_t>(i)];
                                   },
                               .share = share};
    NamedTensors state = calibrated_clusters(samples, {}, {.seed = 2});
    state.merge(gptq_codes(samples, state));
    return state;
  }

  models::SmallBlock block;
  recipe::Recipe recipe =
      shipped_recipe("rptq-w4a4", {"clusters.norms=4", "clusters.heads=2", "clusters.mlp=5",
                                   "clusters.min_cluster=1", "clusters.range=ema"});
  std::vector<at::Tensor> inputs;
};

TEST(SampleShareTest, EveryRankReadsItsPartAndGetsWhatOneRankGets) {
  const SharedBlock scene;
  std::vector<int> alone(1);
  const NamedTensors expected = scene.state_of(0, {}, alone);
  for (const int count : {2, 4}) {
    std::vector<int> reads(static_cast<std::size_t>(count));
    std::vector<NamedTensors> found(static_cast<std::size_t>(count));
    std::vector<Rank> group;
    for (int rank = 0; rank < count; ++rank) group.push_back(Rank{rank});
    dist::run_as_threads(count, std::chrono::seconds(30), [&](dist::Transport& transport) {
      const int place = transport.rank().value;
      const auto sum = [&](const at::Tensor& t) { dist::tree_sum(transport, t, group, "test"); };
      found[static_cast<std::size_t>(place)] =
          scene.state_of(place, {.count = count, .place = place, .sum = sum}, reads);
    });
    for (const int read : reads) EXPECT_EQ(read * count, alone.front());
    for (const NamedTensors& state : found) {
      ASSERT_EQ(state.size(), expected.size());
      for (const auto& [name, tensor] : expected) {
        EXPECT_TRUE(at::equal(state.at(name), tensor)) << name << ", " << count << " ranks";
      }
    }
  }
}

}  // namespace
}  // namespace lrq::pipeline

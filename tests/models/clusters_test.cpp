// Channels in clusters: their orders leave a block's function alone, and its sites and weights are
// quantized cluster by cluster.
#include "src/models/clusters.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/models/cluster_orders.h"
#include "src/models/layers.h"
#include "src/models/rope.h"
#include "src/models/site_maps.h"
#include "src/quant/cluster_observer.h"
#include "src/quant/kmeans.h"
#include "tests/models/small_block.h"

namespace lrq::models {
namespace {

using Runs = std::vector<quant::ClusterLayout::Run>;

at::Tensor numbers(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }
at::Tensor whole(const std::vector<std::int64_t>& values) { return at::tensor(values, at::kLong); }

/// With maxima of [C] and minima of -[C].
quant::ClusterRange both_ways(const at::Tensor& high) { return {.low = high.neg(), .high = high}; }

/// Every site's ranges, those not given all zero.
SiteRanges ranges_of(const ModelConfig& config, SiteRanges given) {
  const std::int64_t queries = config.num_attention_heads * config.head_dim;
  const std::int64_t keys = config.num_key_value_heads * config.head_dim;
  const auto add = [&](Site site, std::int64_t channels) {
    given.emplace(site, both_ways(at::zeros({channels}, at::kDouble)));
  };
  add(Site::kQkvIn, config.hidden_size);
  add(Site::kQuery, queries);
  add(Site::kKey, keys);
  add(Site::kValue, keys);
  add(Site::kOutIn, queries);
  add(Site::kMlpIn, config.hidden_size);
  add(Site::kDownIn, config.intermediate_size);
  return given;
}

ModelConfig with_heads(const char* name, std::int64_t heads, std::int64_t kv_heads,
                       std::int64_t head_dim) {
  ModelConfig config = small_config(name, kv_heads, false);
  config.num_attention_heads = heads;
  config.head_dim = head_dim;
  config.hidden_size = heads * head_dim;
  return config;
}

ClusterOptions two_a_head() { return {.heads = 2, .min_cluster = 1}; }

NamedTensors orders_of(const ModelConfig& config, SiteRanges given, const ClusterOptions& options) {
  return cluster_orders(*make_family(config), ranges_of(config, std::move(given)), options,
                        {.seed = 2, .block = 3});
}

Runs runs_at(const NamedTensors& state, Site site) {
  return restored_layout(state.at(layout_name(site))).runs;
}

TEST(ClusterOrdersTest, HeadsAreOrderedEachForItself) {
  const auto state = orders_of(
      with_heads("llama", 2, 2, 4),
      {{Site::kOutIn, both_ways(numbers({1, 8, 1.1, 7.9, 5, 0.5, 5.2, 0.4}))}}, two_a_head());
  EXPECT_TRUE(at::equal(state.at("map.value.00.permutation"), whole({0, 2, 1, 3, 4, 6, 5, 7})));
  EXPECT_FALSE(state.contains("map.out_in.00.permutation"));
  const Runs expected = {{0, 2}, {1, 2}, {2, 2}, {3, 2}};
  EXPECT_EQ(runs_at(state, Site::kOutIn), expected);
  EXPECT_EQ(runs_at(state, Site::kValue), expected);
}

TEST(ClusterOrdersTest, QueryHeadsThatShareAValueHeadShareItsOrder) {
  const ModelConfig config = with_heads("llama", 2, 1, 4);
  const auto state =
      orders_of(config, {{Site::kOutIn, both_ways(numbers({1, 8, 1.1, 7.9, 1.2, 6, 0.9, 6.5}))}},
                two_a_head());
  const at::Tensor& rows = state.at("map.value.00.permutation");
  EXPECT_TRUE(at::equal(rows, whole({0, 2, 1, 3})));
  EXPECT_TRUE(at::equal(attention_output_order(rows, config), whole({0, 2, 1, 3, 4, 6, 5, 7})));
  EXPECT_EQ(runs_at(state, Site::kValue), (Runs{{0, 2}, {1, 2}}));
  EXPECT_EQ(runs_at(state, Site::kOutIn), (Runs{{0, 2}, {1, 2}, {2, 2}, {3, 2}}));
}

// Head of 8: pairs (0, 4), (1, 5), ..
SiteRanges rotary_ranges() {
  return {{Site::kQuery, both_ways(numbers({1, 6, 1.1, 6.2, 0.9, 6.1, 1.2, 6.3}))},
          {Site::kKey, both_ways(numbers({2, 2.1, 2, 2.2, 2, 2, 2.1, 2}))}};
}

TEST(ClusterOrdersTest, RotaryPairsStayPairsAndAClusterHasARunInEachHalf) {
  const auto state = orders_of(with_heads("llama", 1, 1, 8), rotary_ranges(), two_a_head());
  const at::Tensor expected = whole({0, 2, 1, 3, 4, 6, 5, 7});
  EXPECT_TRUE(at::equal(state.at("map.query.00.permutation"), expected));
  EXPECT_TRUE(at::equal(state.at("map.key.00.permutation"), expected));
  EXPECT_EQ(runs_at(state, Site::kKey), (Runs{{0, 2}, {1, 2}, {0, 2}, {1, 2}}));
}

TEST(ClusterOrdersTest, BehindTheTurnAnyOrderWillDoAndOffMeansARangeForEachHead) {
  ClusterOptions options = two_a_head();
  options.rope = RopeOrder::kPost;
  const ModelConfig config = with_heads("llama", 1, 1, 8);
  const auto post = orders_of(config, rotary_ranges(), options);
  EXPECT_TRUE(at::equal(post.at("map.query.00.permutation"), whole({0, 2, 4, 6, 1, 3, 5, 7})));
  EXPECT_EQ(runs_at(post, Site::kQuery), (Runs{{0, 4}, {1, 4}}));
  options.rope = RopeOrder::kOff;
  const auto off = orders_of(with_heads("llama", 4, 2, 4), {}, options);
  EXPECT_FALSE(off.contains("map.query.00.permutation"));
  EXPECT_EQ(runs_at(off, Site::kQuery), (Runs{{0, 4}, {1, 4}, {2, 4}, {3, 4}}));
  EXPECT_EQ(runs_at(off, Site::kKey), (Runs{{0, 4}, {1, 4}}));
}

TEST(ClusterOrdersTest, OptWeighsQueriesAsTheyAreBeforeTheyAreScaled) {
  // Heads of 4: the site sees half of each query.  Before that queries vary more than keys, and
  // channels 0, 1 belong together; after it keys would decide for 0, 2.
  const SiteRanges ranges = {{Site::kQuery, both_ways(numbers({1, 1, 4, 4}))},
                             {Site::kKey, both_ways(numbers({1, 5.5, 1, 5.5}))}};
  const auto state = orders_of(with_heads("opt", 1, 1, 4), ranges, two_a_head());
  EXPECT_TRUE(at::equal(state.at("map.key.00.permutation"), whole({0, 1, 2, 3})));
  ClusterOptions options = two_a_head();
  options.rope = RopeOrder::kPost;
  const auto unscaled = orders_of(with_heads("llama", 1, 1, 4), ranges, options);
  EXPECT_TRUE(at::equal(unscaled.at("map.key.00.permutation"), whole({0, 2, 1, 3})));
  options.standardise = true;  // 3/4 of the largest query against 4.5/5.5 of the largest key
  const auto standard = orders_of(with_heads("opt", 1, 1, 4), ranges, options);
  EXPECT_TRUE(at::equal(standard.at("map.key.00.permutation"), whole({0, 2, 1, 3})));
}

TEST(ClusterOrdersTest, ASiteLeftOutIsOneClusterInItsOwnOrder) {
  ClusterOptions options = two_a_head();
  options.sites = "14";
  const auto state = orders_of(with_heads("llama", 4, 2, 4), {}, options);
  EXPECT_EQ(runs_at(state, Site::kQuery), (Runs{{0, 16}}));
  EXPECT_EQ(runs_at(state, Site::kValue), (Runs{{0, 8}}));
  EXPECT_EQ(runs_at(state, Site::kOutIn), (Runs{{0, 16}}));
  EXPECT_EQ(runs_at(state, Site::kDownIn), (Runs{{0, 24}}));
  EXPECT_FALSE(state.contains("map.value.00.permutation"));
  EXPECT_TRUE(state.contains("map.qkv_in.00.permutation"));
}

TEST(ClusterOrdersTest, SmallClustersAreMergedCountingChannelsNotPairs) {
  ClusterOptions options{.heads = 2, .min_cluster = 5};
  const auto merged = orders_of(with_heads("llama", 1, 1, 8), rotary_ranges(), options);
  EXPECT_EQ(runs_at(merged, Site::kKey), (Runs{{0, 4}, {0, 4}}));
  options.min_cluster = 4;  // two pairs
  const auto kept = orders_of(with_heads("llama", 1, 1, 8), rotary_ranges(), options);
  EXPECT_EQ(runs_at(kept, Site::kKey).size(), 4U);
}

// q at position 3, k at position 1, four angles, each for two channels; the tables are put in
// angle_order too.
double turned_product(const at::Tensor& order, const at::Tensor& angle_order) {
  const at::Tensor theta = numbers({1, 0.1, 0.01, 0.001}).repeat(2).index_select(0, angle_order);
  const auto turned = [&](const std::vector<double>& x, double position) {
    const at::Tensor ordered = numbers(x).index_select(0, order);
    const at::Tensor partner = at::cat({ordered.slice(0, 4).neg(), ordered.slice(0, 0, 4)});
    return ordered * (theta * position).cos() + partner * (theta * position).sin();
  };
  const at::Tensor q = turned({1, 2, 3, 4, 5, 6, 7, 8}, 3);
  const at::Tensor k = turned({2, -1, 0.5, 3, 1, 0, -2, 1}, 1);
  return (q * k).sum().item<double>();
}

TEST(ClusterOrdersTest, PairsWithTheirAnglesKeepTheProductOfTurnedHeadsAndNothingElseDoes) {
  const at::NoGradGuard no_grad;
  const at::Tensor kept = whole({0, 1, 2, 3, 4, 5, 6, 7});
  const at::Tensor pairs = whole({0, 2, 1, 3, 4, 6, 5, 7});
  EXPECT_NEAR(turned_product(kept, kept), -4.59234926, 1e-8);
  EXPECT_NEAR(turned_product(pairs, pairs), -4.59234926, 1e-8);
  EXPECT_NEAR(turned_product(pairs, kept), -7.15454355, 1e-8);
  const at::Tensor apart = whole({2, 0, 1, 3, 4, 5, 6, 7});
  EXPECT_NEAR(turned_product(apart, apart), 2.16633660, 1e-8);
  // What the block does: turn, then gather.
  const auto gathered = [&](const std::vector<double>& x, double position) {
    const at::Tensor angles = (numbers({1, 0.1, 0.01, 0.001}) * position).unsqueeze(0);
    return rotate_heads(numbers(x).view({1, 1, 8}), 1, {.cos = angles.cos(), .sin = angles.sin()})
        .flatten()
        .index_select(0, apart);
  };
  const at::Tensor product =
      gathered({1, 2, 3, 4, 5, 6, 7, 8}, 3) * gathered({2, -1, 0.5, 3, 1, 0, -2, 1}, 1);
  EXPECT_NEAR(product.sum().item<double>(), -4.59234926, 1e-8);
}

TEST(ClusteredSitesTest, ANormsOutputArrivesInItsOrder) {
  const at::NoGradGuard no_grad;
  const at::Tensor normed =
      rms_norm(numbers({1, -2, 2, 4}).view({1, 1, 4}), numbers({1, 0.5, 2, 1}), {}, 0.0);
  EXPECT_TRUE(at::allclose(normed.flatten(), numbers({0.4, -0.4, 1.6, 1.6})));
  BlockMethod method = method_with_bits(16, 16);
  method.clusters.on = true;
  EffectiveBlock block;
  block.maps = site_maps({{"map.qkv_in.00.permutation", whole({2, 0, 3, 1})}});
  const at::Tensor found = clustered_sites(method, block)(Site::kQkvIn, normed).flatten();
  EXPECT_TRUE(at::allclose(found, numbers({1.6, 0.4, 1.6, -0.4})));
}

SiteRanges observed(const SmallBlock& block) {
  std::map<Site, quant::ChannelRangeObserver> observers;
  (void)block.family->forward(plain_block(*block.family, block.weights, block.input.scalar_type()),
                              block.input, [&](Site site, const at::Tensor& x) {
                                observers[site].observe(x.dim() == 4 ? merge_heads(x) : x);
                                return x;
                              });
  SiteRanges ranges;
  for (const auto& [site, observer] : observers) ranges.emplace(site, observer.range());
  return ranges;
}

struct ClusterCase {
  const char* family;
  std::int64_t kv_heads;
  bool biases;
};
constexpr std::array kClusterCases = {
    ClusterCase{"llama", 4, false}, ClusterCase{"llama", 2, true},  ClusterCase{"llama", 1, false},
    ClusterCase{"qwen2", 2, false}, ClusterCase{"qwen3", 2, false}, ClusterCase{"opt", 4, true}};

BlockMethod clustered(int weight_bits = 16, int activation_bits = 16) {
  BlockMethod method = method_with_bits(weight_bits, activation_bits);
  method.clip = Clip::kNone;
  method.scale = ScaleMode::kOff;
  method.shift = ShiftMode::kOff;
  method.clusters.on = true;
  return method;
}

TEST(ClusteredBlockTest, OrdersLeaveTheFunctionOfEveryFamilyAloneEachSiteAndAllTogether) {
  const at::NoGradGuard no_grad;
  for (const ClusterCase& one : kClusterCases) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const SmallBlock block(small_config(one.family, one.kv_heads, one.biases), dtype);
      const SiteRanges ranges = observed(block);
      for (const char* sites : {"1", "2", "3", "4", "5", "12345"}) {
        for (const RopeOrder rope : {RopeOrder::kPairs, RopeOrder::kPost, RopeOrder::kOff}) {
          const NamedTensors state = cluster_orders(
              *block.family, ranges,
              {.norms = 5, .heads = 2, .mlp = 6, .sites = sites, .min_cluster = 1, .rope = rope},
              {.seed = 2});
          const at::Tensor found = block.run(state, clustered());
          EXPECT_LT(relative_rms(found, block.plain()), dtype == at::kDouble ? 1e-12 : 1e-5)
              << one.family << one.kv_heads << " sites " << sites;
        }
      }
    }
  }
}

TEST(ClusteredBlockTest, OrdersAreBijectionsThatKeepHeadsAndPairs) {
  const SmallBlock block(small_config("llama", 2, false), at::kDouble);
  const NamedTensors state = cluster_orders(*block.family, observed(block),
                                            {.norms = 5, .heads = 2, .min_cluster = 1}, {});
  int orders = 0;
  for (const auto& [name, order] : state) {
    if (!is_map(name)) continue;
    ++orders;
    EXPECT_TRUE(at::equal(std::get<0>(order.sort()), at::arange(order.size(0)))) << name;
  }
  EXPECT_EQ(orders, 6);
  for (const char* name :
       {"map.query.00.permutation", "map.key.00.permutation", "map.value.00.permutation"}) {
    const at::Tensor heads = state.at(name).view({-1, 4});
    const at::Tensor first = at::arange(heads.size(0)).unsqueeze(1) * 4;
    EXPECT_TRUE((heads - first).ge(0).logical_and((heads - first).lt(4)).all().item<bool>());
    if (name == std::string("map.value.00.permutation")) continue;
    EXPECT_TRUE(at::equal(heads.narrow(1, 0, 2) + 2, heads.narrow(1, 2, 2))) << name;
  }
}

TEST(ClusteredBlockTest, WeightsHaveARangeForEachRowAndClusterOfInputs) {
  const at::NoGradGuard no_grad;
  const SmallBlock block(2);
  NamedTensors state = {
      {"map.value.00.permutation", whole({1, 0, 2, 3, 7, 6, 5, 4})},
      {layout_name(Site::kOutIn), stored_layout(quant::ClusterLayout::contiguous({5, 11}))}};
  const BlockMethod method = clustered(4);
  const EffectiveBlock folded = fold(*block.family, block.weights, state, method, at::kFloat);
  // Query heads 0, 1 share value head 0, and 2, 3 share 1.
  const at::Tensor order = whole({1, 0, 2, 3, 5, 4, 6, 7, 11, 10, 9, 8, 15, 14, 13, 12});
  const at::Tensor w = block.weights.at("self_attn.o_proj.weight").index_select(1, order);
  std::vector<at::Tensor> parts;
  for (const auto& part : w.split_with_sizes({5, 11}, 1)) {
    parts.push_back(
        quant::fake_quant_rows(part.contiguous(), {.bits = 4}));  // the other grid, unsigned
  }
  EXPECT_TRUE(
      at::allclose(folded.linears.at("self_attn.o_proj").weight, at::cat(parts, 1), 0, 1e-5));
  // A layer without clusters has one range a row.
  EXPECT_TRUE(at::allclose(
      folded.linears.at("mlp.down_proj").weight,
      quant::fake_quant_rows(block.weights.at("mlp.down_proj.weight"), {.bits = 4}), 0, 1e-5));
  // Codes that were chosen otherwise take the same steps.
  const PreparedWeight prepared =
      prepared_weights(*block.family, block.weights, state, method).at("self_attn.o_proj");
  state["self_attn.o_proj.codes"] = quantize_prepared(prepared, method).codes.to(at::kByte);
  const EffectiveBlock again = fold(*block.family, block.weights, state, method, at::kFloat);
  EXPECT_TRUE(at::equal(again.linears.at("self_attn.o_proj").weight,
                        folded.linears.at("self_attn.o_proj").weight));
}

TEST(ClusteredBlockTest, BitsOfASite) {
  BlockMethod method = clustered(4, 4);
  method.key_value.bits = 3;
  method.clusters.norm_bits = 8;
  EXPECT_EQ(cluster_bits(method, Site::kQkvIn), 8);
  EXPECT_EQ(cluster_bits(method, Site::kMlpIn), 8);
  EXPECT_EQ(cluster_bits(method, Site::kQuery), 4);
  EXPECT_EQ(cluster_bits(method, Site::kKey), 3);
  EXPECT_EQ(cluster_bits(method, Site::kValue), 3);
  EXPECT_EQ(cluster_bits(method, Site::kOutIn), 4);
  EXPECT_EQ(cluster_bits(method, Site::kDownIn), 4);
  method.clusters.norm_bits = 0;
  EXPECT_EQ(cluster_bits(method, Site::kMlpIn), 4);
  method.clusters.norm_bits = 8;
  method.activation.bits = 16;  // keys and values alone
  EXPECT_EQ(cluster_bits(method, Site::kMlpIn), 16);
}

TEST(ClusteredSitesTest, QuantizeEachClusterOnItsStaticRange) {
  const at::NoGradGuard no_grad;
  BlockMethod method = clustered(16, 4);
  method.clusters = {.on = true, .levels = quant::ClusterLevels::kOneMore, .range_floor = 0};
  method.query.bits = method.key_value.bits = 16;
  EffectiveBlock block;
  block.maps = site_maps({{"map.down_in.00.permutation", whole({0, 2, 3, 1, 4, 5})}});
  const SiteClusters clusters = {
      .layout = quant::ClusterLayout::contiguous({3, 2, 1}),
      .range = {.low = numbers({-1.1, -0.5, -8}), .high = numbers({1.2, 10, 4})}};
  for (const Site site : {Site::kQkvIn, Site::kOutIn, Site::kMlpIn, Site::kDownIn}) {
    block.clusters[site] = clusters;
  }
  const SiteFunction sites = clustered_sites(method, block);
  const at::Tensor x = numbers({0.7, 9.0, -1.05, 0.3, -0.2, -5.0}).view({1, 1, 6});
  EXPECT_TRUE(at::allclose(sites(Site::kDownIn, x).flatten(),
                           numbers({0.71875, -1.00625, 0.2875, 9.1875, 0.0, -5.25}), 0, 1e-9));
  EXPECT_TRUE(at::equal(sites(Site::kQuery, x), x));
  block.clusters.erase(Site::kOutIn);
  EXPECT_THROW((void)clustered_sites(method, block), BugError);
}

TEST(ClusteredSitesTest, ValuesAreOrderedAndTheirOrderIsNotAppliedAgainBehindAttention) {
  const at::NoGradGuard no_grad;
  BlockMethod method = clustered();
  EffectiveBlock block;
  block.maps = site_maps({{"map.value.00.permutation", whole({1, 0, 3, 2})},
                          {"map.out_in.00.permutation", whole({1, 0, 3, 2})}});
  const SiteFunction sites = clustered_sites(method, block);
  const at::Tensor heads = at::arange(8, at::kDouble).view({1, 2, 2, 2});  // [1, heads, T, D]
  EXPECT_TRUE(at::equal(sites(Site::kValue, heads).flatten(), numbers({1, 0, 3, 2, 5, 4, 7, 6})));
  const at::Tensor x = at::arange(4, at::kDouble).view({1, 1, 4});
  EXPECT_TRUE(at::equal(sites(Site::kOutIn, x), x));
}

TEST(AttendTest, RoundedProbabilitiesAreCausalAndKeepToTheWindow) {
  const at::NoGradGuard no_grad;
  at::Generator draws = at::make_generator<at::CPUGeneratorImpl>(3);
  const auto normal = [&] { return at::randn({1, 2, 6, 4}, draws, at::kDouble); };
  const at::Tensor q = normal();
  const at::Tensor k = normal();
  const at::Tensor v = normal();
  for (const std::int64_t window : {6, 3}) {
    const at::Tensor found =
        attend(q, k, v, {.scale = 0.7, .window = window, .round_probabilities = true});
    for (std::int64_t head = 0; head < 2; ++head) {
      for (std::int64_t t = 0; t < 6; ++t) {
        const std::int64_t first = std::max<std::int64_t>(0, t + 1 - window);
        const at::Tensor seen_k = k[0][head].slice(0, first, t + 1);
        const at::Tensor e = (at::mv(seen_k, q[0][head][t]) * 0.7).exp();
        const at::Tensor p = (e / e.sum() * 255).round() / 255;
        EXPECT_TRUE(at::allclose(found[0][head][t],
                                 at::mv(v[0][head].slice(0, first, t + 1).t(), p), 1e-9, 1e-9));
      }
    }
    // 255 levels are fine enough to stay near the exact result.
    const at::Tensor exact = attend(q, k, v, {.scale = 0.7, .window = window});
    EXPECT_LT(relative_rms(found, exact), 0.01);
    EXPECT_GT(relative_rms(found, exact), 1e-5);
  }
}

}  // namespace
}  // namespace lrq::models

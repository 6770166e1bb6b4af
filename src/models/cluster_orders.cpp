#include "src/models/cluster_orders.h"

#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/draw_key.h"
#include "src/models/clusters.h"
#include "src/quant/kmeans.h"

namespace lrq::models {
namespace {

using at::Tensor;
using Counts = std::vector<std::int64_t>;

/// Orders every site of one block.
class Orderer {
 public:
  Orderer(const Family& family, const SiteRanges& ranges, const ClusterOptions& options,
          const MapKey& key)
      : block_(family.block()),
        config_(family.config()),
        ranges_(ranges),
        options_(options),
        key_(key) {}

  [[nodiscard]] NamedTensors order() {
    order_channels(Site::kQkvIn, 1, options_.norms);
    order_queries_and_keys();
    order_values();
    order_channels(Site::kMlpIn, 4, options_.norms);
    order_channels(Site::kDownIn, 5, options_.mlp);
    return std::move(made_);
  }

 private:
  [[nodiscard]] bool wanted(std::uint64_t site) const {
    return options_.sites.find(static_cast<char>('0' + site)) != std::string::npos;
  }

  [[nodiscard]] std::int64_t channels(Site site) const { return ranges_.at(site).low.size(0); }

  void add(Site site, const Tensor& order, const quant::ClusterLayout& layout) {
    if (order.defined()) made_.emplace(map_name(site, 0, "permutation"), order);
    made_.emplace(layout_name(site), stored_layout(layout));
  }

  void keep(Site site) { add(site, {}, quant::ClusterLayout::contiguous({channels(site)})); }

  /// points [n, 2 m]: m highs, then m lows, of n channels (or of n pairs of them).
  [[nodiscard]] quant::ClusterOrder clustered(const Tensor& points, std::int64_t count,
                                              std::uint64_t site, std::int64_t head,
                                              std::int64_t channels_each = 1) const {
    if (options_.equal) {
      const auto sides = points.chunk(2, 1);
      const Tensor sizes = std::get<0>((sides[0] - sides[1]).max(1));
      return quant::cluster_order(quant::equal_clusters(sizes, count));
    }
    const std::int64_t smallest = (options_.min_cluster + channels_each - 1) / channels_each;
    const std::uint64_t key = draw_key(key_.seed, {static_cast<std::uint64_t>(key_.block), site,
                                                   static_cast<std::uint64_t>(head)});
    return quant::cluster_order(
        quant::kmeans(points, count, key, {.min_cluster = smallest}).labels);
  }

  void order_channels(Site site, std::uint64_t number, std::int64_t count) {
    if (!wanted(number)) return keep(site);
    const auto& [low, high] = ranges_.at(site);
    const auto [idx, counts] = clustered(at::stack({high, low}, 1), count, number, 0);
    add(site, idx, quant::ClusterLayout::contiguous(counts));
  }

  /// [heads, D] of what is [heads * D].
  [[nodiscard]] Tensor by_head(const Tensor& channels) const {
    return channels.view({-1, config_.head_dim});
  }

  /// Largest or smallest over the query heads that share a key head: [Hkv, D].
  [[nodiscard]] quant::ClusterRange shared_queries() const {
    const auto& [low, high] = ranges_.at(Site::kQuery);
    const auto grouped = [&](const Tensor& x) {
      return x.view({config_.num_key_value_heads, config_.query_groups(), config_.head_dim}) /
             block_.query_scale;
    };
    return {.low = grouped(low).amin(1), .high = grouped(high).amax(1)};
  }

  void order_queries_and_keys() {
    const bool off = block_.rotary && options_.rope == RopeOrder::kOff;
    if (!wanted(2) || off) {
      for (const Site site : {Site::kQuery, Site::kKey}) {
        if (!wanted(2)) {
          keep(site);
          continue;
        }
        const auto heads = static_cast<std::size_t>(channels(site) / config_.head_dim);
        add(site, {}, quant::ClusterLayout::contiguous(Counts(heads, config_.head_dim)));
      }
      return;
    }
    const quant::ClusterRange q = shared_queries();
    const quant::ClusterRange k = {.low = by_head(ranges_.at(Site::kKey).low),
                                   .high = by_head(ranges_.at(Site::kKey).high)};
    std::vector<Tensor> orders;
    std::vector<Counts> counts;
    for (std::int64_t head = 0; head < config_.num_key_value_heads; ++head) {
      auto [idx, count] = order_of_queries({.low = q.low[head], .high = q.high[head]},
                                           {.low = k.low[head], .high = k.high[head]}, head);
      orders.push_back(idx);
      counts.push_back(std::move(count));
    }
    add_heads(Site::kKey, orders, counts, 1, pairs());
    add_heads(Site::kQuery, orders, counts, config_.query_groups(), pairs());
  }

  [[nodiscard]] bool pairs() const { return block_.rotary && options_.rope == RopeOrder::kPairs; }

  /// Within the head; with pairs the counts are those of pairs.
  [[nodiscard]] quant::ClusterOrder order_of_queries(quant::ClusterRange q, quant::ClusterRange k,
                                                     std::int64_t head) const {
    if (options_.standardise) {
      q = standardised(q);
      k = standardised(k);
    }
    if (!pairs()) {
      return clustered(at::stack({q.high, k.high, q.low, k.low}, 1), options_.heads, 2, head);
    }
    std::vector<Tensor> numbers;
    for (const Tensor& each : {q.high, k.high, q.low, k.low}) {
      for (const Tensor& half : each.chunk(2)) numbers.push_back(half);
    }
    auto [pair, counts] = clustered(at::stack(numbers, 1), options_.heads, 2, head, 2);
    return {.idx = at::cat({pair, pair + config_.head_dim / 2}), .counts = std::move(counts)};
  }

  [[nodiscard]] static quant::ClusterRange standardised(const quant::ClusterRange& range) {
    const Tensor largest = at::maximum(range.high.abs().max(), range.low.abs().max());
    const Tensor divisor = at::where(largest.eq(0), at::ones_like(largest), largest);
    return {.low = range.low / divisor, .high = range.high / divisor};
  }

  void order_values() {
    if (!wanted(3)) {
      keep(Site::kValue);
      return keep(Site::kOutIn);
    }
    const std::int64_t sharing = config_.query_groups();
    const auto shared = [&](const Tensor& x) {
      return x.view({config_.num_key_value_heads, sharing, config_.head_dim}).transpose(1, 2);
    };
    const Tensor high = shared(ranges_.at(Site::kOutIn).high);  // [Hkv, D, sharing]
    const Tensor low = shared(ranges_.at(Site::kOutIn).low);
    std::vector<Tensor> orders;
    std::vector<Counts> counts;
    for (std::int64_t head = 0; head < config_.num_key_value_heads; ++head) {
      auto [idx, count] = clustered(at::cat({high[head], low[head]}, 1), options_.heads, 3, head);
      orders.push_back(idx);
      counts.push_back(std::move(count));
    }
    add_heads(Site::kValue, orders, counts, 1, false);
    add_heads(Site::kOutIn, {}, counts, sharing, false);
  }

  /// Each of the orders (none: the order is another site's) for `repeats` neighbouring heads.
  void add_heads(Site site, const std::vector<Tensor>& orders, const std::vector<Counts>& counts,
                 std::int64_t repeats, bool paired) {
    std::vector<Tensor> all;
    std::vector<Counts> by_head;
    Counts flat;
    for (std::size_t head = 0; head < counts.size(); ++head) {
      for (std::int64_t i = 0; i < repeats; ++i) {
        const auto first = static_cast<std::int64_t>(by_head.size()) * config_.head_dim;
        if (!orders.empty()) all.push_back(orders[head] + first);
        by_head.push_back(counts[head]);
        flat.insert(flat.end(), counts[head].begin(), counts[head].end());
      }
    }
    add(site, all.empty() ? Tensor() : at::cat(all),
        paired ? quant::ClusterLayout::paired(by_head) : quant::ClusterLayout::contiguous(flat));
  }

  const BlockSpec& block_;  // borrowed for one cluster_orders() call, as all references here
  const ModelConfig& config_;
  const SiteRanges& ranges_;
  const ClusterOptions& options_;
  MapKey key_;
  NamedTensors made_;
};

}  // namespace

NamedTensors cluster_orders(const Family& family, const SiteRanges& ranges,
                            const ClusterOptions& options, const MapKey& key) {
  const c10::NoGradGuard no_grad;
  return Orderer(family, ranges, options, key).order();
}

}  // namespace lrq::models

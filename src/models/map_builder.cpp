#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/draw_key.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/models/layers.h"
#include "src/models/site_maps.h"
#include "src/transform/draws.h"
#include "src/transform/greedy_rotation.h"
#include "src/transform/hadamard.h"
#include "src/transform/householder_target.h"
#include "src/transform/rotation.h"
#include "src/transform/uniform_rotation.h"
#include "src/transform/zigzag.h"

namespace lrq::models {
namespace {

/// The sites with maps in the order of the forward pass, which is that of their numbers in a key.
constexpr std::array kSites = {Site::kQkvIn, Site::kOutIn, Site::kMlpIn, Site::kDownIn};

std::int64_t block_size(const MapMethod& method, std::int64_t channels) {
  if (method.block_size > 0) return method.block_size;
  return method.block_size < 0 ? channels : transform::auto_block_size(channels);
}

/// Builds the chain of one site from rows that pass it.
class ChainBuilder {
 public:
  ChainBuilder(const MapMethod& method, const MapKey& key, std::size_t site, int draw)
      : method_(method), key_(key), site_(site), draw_(draw) {}

  /// rows [n, C] float32.
  [[nodiscard]] transform::Chain build(at::Tensor rows) {
    const std::int64_t block = block_size(method_, rows.size(1));
    if (method_.kind != MapKind::kNone) {
      for (int stage = 0; stage <= method_.permutations; ++stage) {
        add(rotation_of(rows, block, stage), rows);
        if (stage == method_.permutations) break;
        add({transform::find_kind("permutation"),
             transform::zigzag_permutation(rows.abs().amax(0), rows.size(1) / block)},
            rows);
      }
    }
    if (method_.householder) {
      const transform::Draws draws = draws_of(method_.permutations + 1, 0);
      add({transform::find_kind("householder"), transform::householder_target(rows, draws)}, rows);
    }
    return std::move(chain_);
  }

 private:
  void add(transform::Transform transform, at::Tensor& rows) {
    rows = transform::apply({transform}, rows);
    chain_.push_back(std::move(transform));
  }

  [[nodiscard]] transform::Draws draws_of(int stage, std::int64_t step) const {
    const std::uint64_t key =
        draw_key(key_.seed, {static_cast<std::uint64_t>(key_.block), site_,
                             static_cast<std::uint64_t>(stage), static_cast<std::uint64_t>(step)});
    // The first of several draws is the only one's.
    return transform::draws_from(draw_ == 0 ? key
                                            : splitmix64(key ^ static_cast<std::uint64_t>(draw_)));
  }

  [[nodiscard]] transform::Transform rotation_of(const at::Tensor& rows, std::int64_t block,
                                                 int stage) const {
    const transform::Blocks blocks =
        method_.separate_blocks ? transform::Blocks::kSeparate : transform::Blocks::kShared;
    const transform::Kind* rotation = transform::find_kind("rotation");
    switch (method_.kind) {
      case MapKind::kGreedy:
        return {rotation, transform::greedy_rotation(
                              rows,
                              {.block = block,
                               .steps = method_.steps,
                               .index = method_.by_row ? transform::OutlierIndex::kRow
                                                       : transform::OutlierIndex::kColumn,
                               .blocks = blocks},
                              draws_of(stage, 0))};
      case MapKind::kUniform:
        return {rotation,
                transform::uniform_rotation(
                    rows,
                    {.block = block,
                     .steps = method_.steps,
                     .random_permutations = method_.random_permutations,
                     .givens = method_.reference_givens ? transform::GivensTurn::kReference
                                                        : transform::GivensTurn::kTarget,
                     .blocks = blocks},
                    [&](std::int64_t step) { return draws_of(stage, step); })};
      case MapKind::kHadamard:
      case MapKind::kNone:
        break;
    }
    return {transform::find_kind("hadamard"), transform::hadamard_parameter(block)};
  }

  const MapMethod& method_;  // borrowed for one build
  MapKey key_;
  std::uint64_t site_;
  int draw_;
  transform::Chain chain_;
};

/// What passes a site of the quantized block, [n, C] float32: every k-th of all tokens, so that
/// there are at most `limit`.
at::Tensor rows_at(const Family& family, const EffectiveBlock& block, const SiteFunction& sites,
                   Site wanted, std::span<const at::Tensor> inputs, std::int64_t limit,
                   const TokenShare& share) {
  std::int64_t tokens = share.all;
  for (const at::Tensor& input : inputs) tokens += share.all == 0 ? input.size(1) : 0;
  const std::int64_t every = (tokens + limit - 1) / limit;
  at::Tensor rows;
  std::int64_t first = share.first;  // token of the input
  const auto take = [&](Site site, const at::Tensor& x) {
    if (site == wanted) {
      if (!rows.defined()) {
        rows = at::zeros({(tokens + every - 1) / every, x.size(2)}, x.options().dtype(at::kFloat));
      }
      const std::int64_t row = (first + every - 1) / every;  // the first at or behind this token
      const at::Tensor taken = x[0].slice(0, row * every - first, std::nullopt, every);
      rows.narrow(0, row, taken.size(0)).add_(taken);
    }
    return sites(site, x);
  };
  for (const at::Tensor& input : inputs) {
    (void)family.forward(block, input, take);
    first += input.size(1);
  }
  share.sum(rows);
  return rows;
}

NamedTensors named(const transform::Chain& chain, std::size_t site) {
  NamedTensors maps;
  for (std::size_t place = 0; place < chain.size(); ++place) {
    maps.emplace(map_name(kSites[site], place, chain[place].kind->name), chain[place].parameter);
  }
  return maps;
}

/// What quantization costs the linears that read a site, for one draw of its maps after the other:
/// the sum over them of the mean over rows of |y' - y|^2 / |y|^2, so that no massive token decides
/// alone.
class SiteError {
 public:
  /// learnables: without maps of the site.  rows [n, C]: what enters it.
  SiteError(const Family& family, const NamedTensors& weights, const NamedTensors& learnables,
            const BlockMethod& method, at::ScalarType compute, Site site, const at::Tensor& rows)
      : family_(family),
        weights_(weights),
        learnables_(learnables),
        method_(method),
        compute_(compute),
        site_(site),
        x_(rows.to(compute).unsqueeze(0)) {
    BlockMethod exact = method;
    exact.weight.bits = exact.activation.bits = 16;
    outputs_ = outputs(learnables, exact);
  }

  [[nodiscard]] double of(const NamedTensors& maps) const {
    NamedTensors with = learnables_;
    with.insert(maps.begin(), maps.end());
    const std::vector<at::Tensor> quantized = outputs(with, method_);
    at::Tensor error = at::zeros({}, x_.options().dtype(at::kDouble));
    for (std::size_t i = 0; i < quantized.size(); ++i) {
      const at::Tensor energy = outputs_[i].square().sum(-1).clamp_min(1e-12);
      error += ((quantized[i] - outputs_[i]).square().sum(-1) / energy).mean().to(at::kDouble);
    }
    return error.item<double>();
  }

 private:
  /// Of each linear that reads the site, [1, n, O] float32.
  [[nodiscard]] std::vector<at::Tensor> outputs(const NamedTensors& learnables,
                                                const BlockMethod& method) const {
    const EffectiveBlock block = fold(family_, weights_, learnables, method, compute_);
    const at::Tensor leaving = quantizing_sites(family_, method, block)(site_, x_);
    std::vector<at::Tensor> outputs;
    for (const LinearSpec& linear : family_.block().linears) {
      if (linear.input != site_) continue;
      outputs.push_back(apply_linear(block.linears.at(linear.name), leaving, at::kFloat));
    }
    return outputs;
  }

  // Borrowed for one site:
  const Family& family_;
  const NamedTensors& weights_;
  const NamedTensors& learnables_;
  const BlockMethod& method_;
  at::ScalarType compute_;
  Site site_;
  at::Tensor x_;
  std::vector<at::Tensor> outputs_;  // with nothing quantized
};

/// Chains drawn for a site; those without anything random are all the same.
int draws_of(const MapMethod& method) {
  const bool random = method.kind == MapKind::kGreedy || method.kind == MapKind::kUniform;
  return random || method.householder ? method.draws : 1;
}

}  // namespace

NamedTensors build_site_maps(const Family& family, const NamedTensors& weights,
                             const NamedTensors& learnables, const BlockMethod& method,
                             std::span<const at::Tensor> inputs, at::ScalarType compute,
                             const MapKey& key, const TokenShare& share) {
  const c10::NoGradGuard no_grad;
  check_map_sizes(family, method.map);
  NamedTensors so_far = truncated_scales(learnables, method);
  NamedTensors maps;
  for (std::size_t index = 0; index < kSites.size(); ++index) {
    const EffectiveBlock block = fold(family, weights, so_far, method, compute);
    const at::Tensor rows = rows_at(family, block, quantizing_sites(family, method, block),
                                    kSites[index], inputs, method.map.calib_tokens, share);
    const auto draw = [&](int which) {
      return named(ChainBuilder(method.map, key, index, which).build(rows), index);
    };
    NamedTensors best = draw(0);
    if (const int draws = draws_of(method.map); draws > 1) {
      const SiteError error(family, weights, so_far, method, compute, kSites[index], rows);
      double least = error.of(best);
      for (int which = 1; which < draws; ++which) {
        NamedTensors drawn = draw(which);
        const double found = error.of(drawn);
        if (!(found < least)) continue;
        least = found;
        best = std::move(drawn);
      }
    }
    so_far.insert(best.begin(), best.end());
    maps.merge(best);
  }
  return maps;
}

void check_map_sizes(const Family& family, const MapMethod& method) {
  if (method.kind == MapKind::kNone) return;
  for (const LinearSpec& linear : family.block().linears) {
    const std::int64_t block = block_size(method, linear.in);
    const bool fits = linear.in % block == 0;
    const bool even = method.kind != MapKind::kUniform || block % 2 == 0;
    const bool power =
        method.kind != MapKind::kHadamard || std::has_single_bit(static_cast<std::uint64_t>(block));
    if (fits && even && power) continue;
    throw UsageError({.what = concat("blocks of ", block, " channels ",
                                     !fits   ? "do not divide"
                                     : !even ? "cannot be turned in pairs in"
                                             : "are no power of two, as Hadamard matrices need, in",
                                     " the ", linear.in, " inputs of ", linear.name),
                      .where = "recipe field rotation.block_size (option --block-size)",
                      .fix = concat("use --block-size ", transform::auto_block_size(linear.in),
                                    ", or 0 to choose by width")});
  }
}

}  // namespace lrq::models

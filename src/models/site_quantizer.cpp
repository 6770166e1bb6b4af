#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "src/models/clusters.h"
#include "src/models/layers.h"
#include "src/models/quant_block.h"

namespace lrq::models {
namespace {

/// Changes the basis of what passes a site and fake-quantizes it.
class SiteQuantizer {
 public:
  SiteQuantizer(const BlockMethod& method, const EffectiveBlock& block, std::int64_t head_dim)
      : method_(method), maps_(block.maps), clips_(block.clips), head_dim_(head_dim) {}

  at::Tensor operator()(Site site, const at::Tensor& x) const {
    const auto map = maps_.find(site);
    at::Tensor changed = map == maps_.end() ? x : transform::apply(map->second, x);
    const quant::Grid& grid = grid_of(site);
    if (grid.identity()) return changed;
    // Tokens are the second axis from the end, whether heads are split or not.
    const std::int64_t all = changed.size(-2);
    const std::int64_t exact = std::min(method_.exact_tokens, all);
    if (exact == 0) return quantized(site, changed, grid);
    if (exact == all) return changed;
    const at::Tensor rest = changed.narrow(-2, exact, all - exact).contiguous();
    return at::cat({changed.narrow(-2, 0, exact), quantized(site, rest, grid)}, -2);
  }

 private:
  [[nodiscard]] const quant::Grid& grid_of(Site site) const {
    switch (site) {
      case Site::kQuery:
        return method_.query;
      case Site::kKey:
      case Site::kValue:
        return method_.key_value;
      default:
        return method_.activation;
    }
  }

  [[nodiscard]] at::Tensor quantized(Site site, const at::Tensor& x,
                                     const quant::Grid& grid) const {
    const quant::RowClip clip = clip_of(site, x);
    if (site == Site::kQuery || site == Site::kKey || site == Site::kValue) {
      return quantized_heads(x, grid, clip);
    }
    return quant::fake_quant_rows(x, grid, clip);
  }

  /// Values are not clipped: their ranges are those of the published code (docs/methods.md).
  [[nodiscard]] quant::RowClip clip_of(Site site, const at::Tensor& x) const {
    if (method_.activation_clip == Clip::kNone || site == Site::kValue) return {};
    const auto learned = clips_.find(site);
    if (learned != clips_.end()) return learned->second;
    if (method_.activation_clip != Clip::kRatio || method_.activation_clip_ratio == 1.0) return {};
    const at::Tensor ratio =
        at::full({1}, method_.activation_clip_ratio, x.options().requires_grad(false));
    return {.upper = ratio, .lower = ratio};
  }

  /// [1, heads, T, D] with a range per head, or [1, T, heads * D] with one for all heads, and the
  /// other way around where the granularity asks for it.
  [[nodiscard]] at::Tensor quantized_heads(const at::Tensor& x, const quant::Grid& grid,
                                           const quant::RowClip& clip) const {
    const bool split = x.dim() == 4;
    if (method_.qkv_granularity == QkvGranularity::kPerHead && !split) {
      const at::Tensor heads = x.unflatten(-1, {x.size(-1) / head_dim_, head_dim_});
      return quant::fake_quant_rows(heads, grid, clip).flatten(2);
    }
    if (method_.qkv_granularity == QkvGranularity::kPerToken && split) {
      return split_heads(quant::fake_quant_rows(merge_heads(x), grid, clip), x.size(1));
    }
    return quant::fake_quant_rows(x, grid, clip);
  }

  BlockMethod method_;
  std::map<Site, transform::Chain> maps_;
  std::map<Site, quant::RowClip> clips_;
  std::int64_t head_dim_;
};

}  // namespace

SiteFunction quantizing_sites(const Family& family, const BlockMethod& method,
                              const EffectiveBlock& block) {
  if (method.clusters.on) return clustered_sites(method, block);
  return SiteQuantizer(method, block, family.config().head_dim);
}

}  // namespace lrq::models

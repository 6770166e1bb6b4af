#include "src/models/quant_block.h"

#include <ATen/ATen.h>

#include "src/models/layers.h"
#include "src/quant/fake_quant.h"

namespace lrq::models {
namespace {

at::Tensor copied(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.to(tensor.options().dtype(dtype), /*non_blocking=*/false, /*copy=*/true,
                   at::MemoryFormat::Contiguous);
}

at::Tensor copied_bias(const NamedTensors& weights, const std::string& owner,
                       at::ScalarType dtype) {
  const auto found = weights.find(owner + ".bias");
  return found == weights.end() ? at::Tensor() : copied(found->second, dtype);
}

/// Queries, keys or values: [1, heads, T, D] with a range per head, or [1, T, heads * D] with one
/// for all heads, and the other way around where the granularity asks for it.
at::Tensor fake_quant_heads(const at::Tensor& x, const quant::Grid& grid,
                            QkvGranularity granularity, std::int64_t head_dim) {
  if (grid.identity()) return x;
  const bool split = x.dim() == 4;
  if (granularity == QkvGranularity::kPerHead && !split) {
    return quant::fake_quant_rows(x.unflatten(-1, {x.size(-1) / head_dim, head_dim}), grid)
        .flatten(2);
  }
  if (granularity == QkvGranularity::kPerToken && split) {
    return split_heads(quant::fake_quant_rows(merge_heads(x), grid), x.size(1));
  }
  return quant::fake_quant_rows(x, grid);
}

}  // namespace

std::string_view site_name(Site site) {
  switch (site) {
    case Site::kQkvIn:
      return "qkv_in";
    case Site::kQuery:
      return "query";
    case Site::kKey:
      return "key";
    case Site::kValue:
      return "value";
    case Site::kOutIn:
      return "out_in";
    case Site::kMlpIn:
      return "mlp_in";
    case Site::kDownIn:
      return "down_in";
  }
  return "unknown";
}

EffectiveBlock plain_block(const Family& family, const NamedTensors& weights,
                           at::ScalarType compute) {
  const at::ScalarType exact = compute == at::kDouble ? at::kDouble : at::kFloat;
  EffectiveBlock plain;
  for (const LinearSpec& linear : family.block().linears) {
    plain.linears[linear.name] = {copied(weights.at(linear.name + ".weight"), compute),
                                  copied_bias(weights, linear.name, exact)};
  }
  for (const std::string& norm : family.block().norms) {
    plain.norms[norm] = {copied(weights.at(norm + ".weight"), exact),
                         copied_bias(weights, norm, exact)};
  }
  return plain;
}

SiteFunction quantizing_sites(const Family& family, const BlockMethod& method) {
  return [activation = method.activation, query = method.query, key_value = method.key_value,
          granularity = method.qkv_granularity,
          head_dim = family.config().head_dim](Site site, const at::Tensor& x) {
    switch (site) {
      case Site::kQuery:
        return fake_quant_heads(x, query, granularity, head_dim);
      case Site::kKey:
      case Site::kValue:
        return fake_quant_heads(x, key_value, granularity, head_dim);
      default:
        return quant::fake_quant_rows(x, activation);
    }
  };
}

SiteFunction plain_sites() {
  return [](Site, const at::Tensor& x) { return x; };
}

}  // namespace lrq::models

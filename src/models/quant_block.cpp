#include "src/models/quant_block.h"

#include <ATen/ATen.h>

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

SiteFunction plain_sites() {
  return [](Site, const at::Tensor& x) { return x; };
}

}  // namespace lrq::models

#include "src/transform/transform.h"

#include <ranges>

#include <ATen/ATen.h>

namespace lrq::transform {

at::Tensor apply(const Chain& chain, at::Tensor x) {
  for (const Transform& link : chain) x = link.kind->apply(link.parameter, x);
  return x;
}

at::Tensor invert(const Chain& chain, at::Tensor x) {
  for (const Transform& link : chain | std::views::reverse) {
    x = link.kind->invert(link.parameter, x);
  }
  return x;
}

at::Tensor fold(const Chain& chain, at::Tensor weight) {
  for (const Transform& link : chain) weight = link.kind->fold(link.parameter, weight);
  return weight;
}

at::Tensor unfold(const Chain& chain, at::Tensor weight) {
  for (const Transform& link : chain | std::views::reverse) {
    weight = link.kind->unfold(link.parameter, weight);
  }
  return weight;
}

at::Tensor bias_term(const Chain& chain, const at::Tensor& weight) {
  at::Tensor total;
  at::Tensor arriving = weight;  // as it is where a transform stands, folded up to `folded`
  std::size_t folded = 0;
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const auto& [kind, parameter] = chain[i];
    if (kind->bias_term == nullptr) continue;
    for (; folded < i; ++folded) {
      arriving = chain[folded].kind->fold(chain[folded].parameter, arriving);
    }
    const at::Tensor gained = kind->bias_term(parameter, arriving);
    total = total.defined() ? total + gained : gained;
  }
  return total;
}

}  // namespace lrq::transform

#include "src/transform/permutation.h"

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

std::string permutation_problem(const at::Tensor& permutation, std::int64_t channels) {
  if (std::string text = dtype_problem(permutation, at::kLong); !text.empty()) return text;
  if (permutation.dim() != 1 || permutation.size(0) != channels) {
    return concat("shape ", format_list(permutation.sizes()), ", not [", channels, "]");
  }
  const at::Tensor sorted = std::get<0>(permutation.sort());
  const bool bijective = at::equal(sorted, at::arange(channels, permutation.options()));
  return bijective ? "" : concat("not every channel of 0 .. ", channels - 1, " occurs once");
}

}  // namespace

at::Tensor permute_channels(const at::Tensor& permutation, const at::Tensor& x) {
  expect(x.dim() > 0 && permutation.numel() == x.size(-1) && permutation.device() == x.device(),
         "a permutation is [C] on its operand's device");
  // gather walks along the rows: several times as fast here as index_select, which walks down.
  return x.gather(-1, permutation.expand_as(x));
}

at::Tensor unpermute_channels(const at::Tensor& permutation, const at::Tensor& x) {
  return permute_channels(permutation.argsort(), x);
}

const Kind& permutation_kind() {
  static constexpr Kind kKind = {.name = "permutation",
                                 .apply = permute_channels,
                                 .invert = unpermute_channels,
                                 .fold = permute_channels,
                                 .unfold = unpermute_channels,
                                 .bias_term = nullptr,
                                 .orthogonal = true,
                                 .problem = permutation_problem};
  return kKind;
}

}  // namespace lrq::transform

#include "src/transform/householder.h"

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

constexpr double kSmallestNormSquare = 1e-24;

}  // namespace

at::Tensor reflect(const at::Tensor& w, const at::Tensor& x) {
  expect(w.dim() == 1 && x.dim() > 0 && w.size(0) == x.size(-1), "a reflection vector is [C]");
  const at::Tensor along = as_operand(w, x);
  const at::Tensor square = along.square().sum();
  const at::Tensor none = square.lt(kSmallestNormSquare);
  // Filled before the division too: a gradient must not meet 1 / 0 in the branch not taken.
  const at::Tensor factor = (2 / square.masked_fill(none, 1)).masked_fill(none, 0);
  const at::Tensor rows = as_rows(x, x.size(-1));
  return rows.addr(rows.mv(along) * factor, along, /*beta=*/1, /*alpha=*/-1).reshape(x.sizes());
}

const Kind& householder_kind() {
  static constexpr Kind kKind = {.name = "householder",
                                 .apply = reflect,
                                 .invert = reflect,
                                 .fold = reflect,
                                 .unfold = reflect,
                                 .bias_term = nullptr,
                                 .orthogonal = true,
                                 .problem = vector_problem};
  return kKind;
}

}  // namespace lrq::transform

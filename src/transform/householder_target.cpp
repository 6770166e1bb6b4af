#include "src/transform/householder_target.h"

#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"

namespace lrq::transform {
namespace {

constexpr double kSmallestSquare = 1e-10;

}  // namespace

at::Tensor uniform_reflection(const at::Tensor& u, const Draws& draws) {
  const at::Tensor r = draws.uniform(u.size(0));
  const at::Tensor w = u - r * (u.norm() / r.norm());
  const auto square = w.dot(w).item<double>();
  return std::isfinite(square) && square >= kSmallestSquare ? w : at::zeros_like(w);
}

at::Tensor householder_target(const at::Tensor& x, const Draws& draws) {
  expect(x.dim() == 2 && x.size(0) > 0, "a reflection is built on [N, C]");
  const c10::NoGradGuard no_grad;
  const at::Tensor largest = at::maximum(x.amax(1), -x.amin(1));
  const at::Tensor u = x[largest.argmax().item<std::int64_t>()].to(at::kCPU, at::kDouble);
  return uniform_reflection(u, draws).to(x.device(), at::kFloat);
}

}  // namespace lrq::transform

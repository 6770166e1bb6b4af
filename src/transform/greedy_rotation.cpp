#include "src/transform/greedy_rotation.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

using at::Tensor;

struct Extremes {
  double peak;
  std::int64_t outlier;
};

// Reduces to columns or rows first: that runs at the speed of memory, a flat argmax does not.
Extremes find_extremes(const Tensor& rows, OutlierIndex index) {
  const std::int64_t along = index == OutlierIndex::kColumn ? 0 : 1;
  const auto [highest, highest_at] = rows.amax(along).max(0);
  const auto [lowest, lowest_at] = rows.amin(along).min(0);
  const auto high = highest.item<double>();
  const auto low = lowest.item<double>();
  const Tensor& at = std::abs(high) > std::abs(low) ? highest_at : lowest_at;
  return {.peak = high - low, .outlier = at.item<std::int64_t>() % rows.size(1)};
}

// S(d) base S(d).
Tensor exchanged(const Tensor& base, std::int64_t d) {
  Tensor order = at::arange(base.size(0), base.options().dtype(at::kLong));
  order[0] = d;
  order[d] = 0;
  return base.index_select(0, order).index_select(1, order);
}

Tensor product_of(const Tensor& base, const std::vector<std::int64_t>& outliers,
                  std::int64_t kept) {
  Tensor product = at::eye(base.size(0), base.options());
  for (std::int64_t step = 0; step < kept; ++step) {
    product = product.mm(exchanged(base, outliers[static_cast<std::size_t>(step)]));
  }
  return product;
}

}  // namespace

Tensor base_rotation(std::int64_t n) {
  expect(n > 0, "a rotation has a size");
  Tensor base = at::eye(n, at::device(at::kCPU).dtype(at::kDouble));
  auto e = base.accessor<double, 2>();
  for (std::int64_t i = 0; i + 1 < n; ++i) {  // base <- G_i base, which mixes two rows
    const double c = 1 / std::sqrt(static_cast<double>(i + 2));
    const double q = std::sqrt(static_cast<double>(i + 1) / static_cast<double>(i + 2));
    for (std::int64_t j = 0; j < n; ++j) {
      const double upper = e[i][j];
      const double lower = e[i + 1][j];
      e[i][j] = c * upper - q * lower;
      e[i + 1][j] = q * upper + c * lower;
    }
  }
  return exchanged(base, n - 1);
}

Tensor random_rotation(std::int64_t n, const Draws& draws) {
  Tensor rotation = base_rotation(n);
  if (n == 1) return rotation;
  const Tensor mixing = std::get<0>(at::linalg_qr(draws.normal({n - 1, n - 1})));
  Tensor others = rotation.slice(1, 1, n);
  others.copy_(others.mm(mixing));
  return rotation;
}

GreedyTrace greedy_steps(const Tensor& rows, const Tensor& base, std::int64_t steps,
                         OutlierIndex index) {
  expect(rows.dim() == 2 && rows.size(0) > 0 && rows.size(1) == base.size(0),
         "a greedy search takes rows of one block each");
  const c10::NoGradGuard no_grad;
  GreedyTrace trace;
  Tensor current = rows;
  Tensor spare;  // takes turns with current; never the caller's rows
  for (std::int64_t step = 0;; ++step) {
    const Extremes found = find_extremes(current, index);
    trace.peaks.push_back(found.peak);
    trace.outliers.push_back(found.outlier);
    if (found.peak < trace.peaks[static_cast<std::size_t>(trace.kept)]) trace.kept = step;
    if (step == steps) break;
    const Tensor turn = exchanged(base, found.outlier).to(rows.options());
    const Tensor next = spare.defined() ? at::mm_out(spare, current, turn) : current.mm(turn);
    if (step > 0) spare = current;
    current = next;
  }
  trace.rotation = product_of(base, trace.outliers, trace.kept);
  return trace;
}

Tensor greedy_rotation(const Tensor& x, const GreedyOptions& options, const Draws& draws) {
  const std::int64_t block = options.block;
  expect(x.dim() == 2 && block > 0 && x.size(1) % block == 0,
         "a block rotation is built on [N, C], the block size a divisor of C");
  const c10::NoGradGuard no_grad;
  const Tensor sample = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const auto search = [&](const Tensor& rows) {
    const Tensor base = random_rotation(block, draws);
    const GreedyTrace trace = greedy_steps(rows, base, options.steps, options.index);
    return trace.rotation.to(x.device(), at::kFloat);
  };
  if (options.blocks == Blocks::kShared) return search(as_rows(sample, block));
  std::vector<Tensor> rotations;
  for (const Tensor& part : sample.split(block, 1)) rotations.push_back(search(part.contiguous()));
  return at::stack(rotations);
}

}  // namespace lrq::transform

#include "src/quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::quant {
namespace {

using at::Tensor;

constexpr std::int64_t kDoubleColumns = 16384;
constexpr double kDampingGrowth = 10.0;
constexpr double kSmallestRetry = 1e-4;
constexpr double kLargestDamping = 1.0;

// Columns as rows, so that every step works on contiguous memory.
struct Columns {
  Tensor weight;  // [I, O], what is left to round
  Tensor codes;   // [I, O]
  Tensor values;  // [I, O]
  Tensor step;    // [G, O]
  Tensor zero;    // [G, O]
  Tensor group;   // [I]
  Tensor loss;    // [] float64
};

void check(const Tensor& weight, const Tensor& hessian, const Grid& grid, const Tensor& step,
           const Tensor& zero, const Tensor& column_group) {
  expect(weight.dim() == 2 && weight.numel() > 0, "a weight is [O, I] and not empty");
  expect(weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kDouble,
         "a weight to round is float32 or float64");
  const std::int64_t in = weight.size(1);
  expect(hessian.sizes() == at::IntArrayRef({in, in}) && hessian.device() == weight.device(),
         "a Hessian is [I, I] on the weight's device");
  expect(hessian.scalar_type() == at::kFloat || hessian.scalar_type() == at::kDouble,
         "a Hessian is float32 or float64");
  expect(grid.bits >= 2 && !grid.identity(), "a grid with steps has 2 to 15 bits");
  expect(step.dim() == 2 && step.size(0) == weight.size(0) && step.sizes() == zero.sizes(),
         "step and zero are [O, G]");
  expect(step.scalar_type() == weight.scalar_type() && step.device() == weight.device() &&
             zero.scalar_type() == weight.scalar_type() && zero.device() == weight.device(),
         "step and zero have the weight's dtype and device");
  if (column_group.defined()) {
    expect(column_group.sizes() == at::IntArrayRef({in}) &&
               column_group.scalar_type() == at::kLong && column_group.device() == weight.device(),
           "column_group is [I] int64 on the weight's device");
  } else {
    expect(step.size(1) == grid.groups(in), "step has one column for each group of the grid");
  }
}

NumericError not_positive(const Tensor& weight, const GptqOptions& options, std::string what) {
  return NumericError(
      {.what = std::move(what),
       .where = concat("GPTQ of ", options.name.empty() ? "a weight" : options.name, " [",
                       weight.size(0), ", ", weight.size(1), "]"),
       .fix = "calibrate with more samples, raise GPTQ's damping, or round to nearest"});
}

struct Factor {
  Tensor upper;  // [I, I], the weight's dtype
  double damping;
};

// U with U^T U = (H + damping * mean(diag H) * I)^-1.  With P the reversal of rows and columns and
// P H P = L L^T, H is (P L P)(P L P)^T and its inverse (P L^-1 P)^T (P L^-1 P): U = P L^-1 P.
Factor upper_factor(const Tensor& hessian, const Tensor& weight, const GptqOptions& options) {
  const double mean = hessian.diagonal().mean(at::kDouble).item<double>();
  if (!std::isfinite(mean) || !hessian.isfinite().all().item<bool>()) {
    throw not_positive(weight, options, "the Hessian has values that are not finite");
  }
  for (double damping = options.damping;;) {
    Tensor damped = hessian.flip({0, 1});
    damped.diagonal().add_(damping * mean);
    const auto [lower, info] = at::linalg_cholesky_ex(damped);
    damped.reset();  // at 28672 columns each of these takes 3 GiB
    if (info.item<int>() == 0) {
      const Tensor identity = at::eye(hessian.size(0), hessian.options());
      const Tensor inverse = at::linalg_solve_triangular(lower, identity, /*upper=*/false);
      return {inverse.flip({0, 1}).to(weight.scalar_type()), damping};
    }
    if (damping >= kLargestDamping) {
      throw not_positive(weight, options,
                         concat("the Hessian is not positive definite, damped by ", damping));
    }
    damping = std::min(std::max(damping * kDampingGrowth, kSmallestRetry), kLargestDamping);
  }
}

// Round columns begin .. end - 1 one after the other; their errors [end - begin, O].
Tensor round_block(const Columns& columns, const Tensor& upper, std::int64_t begin,
                   std::int64_t end, std::int64_t q_max) {
  const Tensor group = columns.group.slice(0, begin, end);
  const Tensor step = columns.step.index_select(0, group);
  const Tensor zero = columns.zero.index_select(0, group);
  const Tensor left = columns.weight.slice(0, begin, end);
  const Tensor corner = upper.slice(0, begin, end).slice(1, begin, end);
  Tensor errors = at::empty_like(left);
  for (std::int64_t i = 0; i < end - begin; ++i) {
    const Tensor column = left[i];
    const Tensor code = (column / step[i]).round_().add_(zero[i]).clamp_(0, q_max);
    const Tensor value = (code - zero[i]).mul_(step[i]);
    const Tensor error = (column - value).div_(corner[i][i]);
    columns.codes[begin + i].copy_(code.nan_to_num(0.0));
    columns.values[begin + i].copy_(value);
    errors[i].copy_(error);
    Tensor later = left.slice(0, i + 1);
    later.addr_(corner[i].slice(0, i + 1), error, /*beta=*/1, /*alpha=*/-1);
  }
  columns.loss.add_(errors.square().sum(at::kDouble), 0.5);
  return errors;
}

// The range of each column [I].
Tensor groups_of(const Tensor& weight, const Grid& grid, const Tensor& column_group) {
  if (column_group.defined()) return column_group;
  const std::int64_t in = weight.size(1);
  const std::int64_t size = grid.group_size <= 0 ? in : grid.group_size;
  return at::arange(in, weight.options().dtype(at::kLong)).floor_divide(size);
}

Columns columns_of(const Tensor& weight, const Tensor& step, const Tensor& zero) {
  return {.weight = weight.t().clone(at::MemoryFormat::Contiguous),
          .codes = at::empty({weight.size(1), weight.size(0)}, weight.options().dtype(at::kInt)),
          .values = at::empty({weight.size(1), weight.size(0)}, weight.options()),
          .step = step.t().contiguous(),
          .zero = zero.t().contiguous(),
          .group = {},
          .loss = at::zeros({}, weight.options().dtype(at::kDouble))};
}

}  // namespace

GptqResult gptq(const Tensor& weight, const Tensor& hessian, const Grid& grid, const Tensor& step,
                const Tensor& zero, const GptqOptions& options, const Tensor& column_group) {
  const c10::NoGradGuard no_grad;
  check(weight, hessian, grid, step, zero, column_group);
  expect(options.block > 0 && options.damping >= 0, "GPTQ has a block and no negative damping");
  const std::int64_t in = weight.size(1);
  Tensor alive = hessian.to(in <= kDoubleColumns ? at::kDouble : at::kFloat, /*non_blocking=*/false,
                            /*copy=*/true);
  const Tensor dead = alive.diagonal().eq(0);
  alive.diagonal().masked_fill_(dead, 1);
  Columns columns = columns_of(weight.masked_fill(dead, 0), step, zero);
  columns.group = groups_of(weight, grid, column_group);
  Tensor order;
  if (options.act_order) {
    order = at::argsort(alive.diagonal(), /*stable=*/true, /*dim=*/0, /*descending=*/true);
    alive = alive.index_select(0, order).index_select(1, order);
    columns.weight = columns.weight.index_select(0, order);
    columns.group = columns.group.index_select(0, order);
  }
  const auto [upper, damping] = upper_factor(alive, weight, options);
  alive.reset();
  for (std::int64_t begin = 0; begin < in; begin += options.block) {
    const std::int64_t end = std::min(begin + options.block, in);
    const Tensor errors = round_block(columns, upper, begin, end, grid.q_max());
    Tensor later = columns.weight.slice(0, end);
    later.addmm_(upper.slice(0, begin, end).slice(1, end).t(), errors, /*beta=*/1, /*alpha=*/-1);
  }
  if (options.act_order) {
    const Tensor place = at::argsort(order);
    columns.codes = columns.codes.index_select(0, place);
    columns.values = columns.values.index_select(0, place);
  }
  return {.codes = columns.codes.t().contiguous(),
          .weight = columns.values.t().contiguous(),
          .loss = columns.loss.item<double>(),
          .damping = damping};
}

}  // namespace lrq::quant

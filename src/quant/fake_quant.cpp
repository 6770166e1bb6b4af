#include "src/quant/fake_quant.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "src/base/check.h"
#include "src/quant/fake_quant_fused.h"

namespace lrq::quant {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The code before it is clamped.
Tensor free_code(const Tensor& x, const Tensor& step, const Tensor& zero) {
  return (x / step).round().add(zero);
}

struct RoundToGrid : torch::autograd::Function<RoundToGrid> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& step,
                        const Tensor& zero, std::int64_t q_max) {
    ctx->save_for_backward({x, step, zero});  // codes are cheaper to compute again than to keep
    ctx->saved_data["q_max"] = q_max;
    return (free_code(x, step, zero).clamp(0, q_max) - zero) * step;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &step = saved[1], &zero = saved[2], &grad = grad_out[0];
    const std::int64_t q_max = ctx->saved_data["q_max"].toInt();
    const Tensor code = free_code(x, step, zero);
    const Tensor clipped = code.ge(0).bitwise_and(code.le(q_max)).bitwise_not();
    const Tensor d_step = code.clamp(0, q_max) - zero - (x / step).masked_fill(clipped, 0);
    return {grad.masked_fill(clipped, 0), (grad * d_step).sum_to_size(step.sizes()), Tensor(),
            Tensor()};
  }
};

bool fits(const Tensor& part, at::IntArrayRef shape, const Tensor& weight) {
  return !part.defined() || (part.sizes() == shape && part.scalar_type() == weight.scalar_type() &&
                             part.device() == weight.device());
}

void check(const Tensor& weight, const WeightTransform& transform, const Grid& grid) {
  expect(weight.dim() == 2 && weight.numel() > 0, "a weight is [O, I] and not empty");
  expect(weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kDouble,
         "a weight to quantize is float32 or float64");
  const std::int64_t out = weight.size(0);
  const std::int64_t in = weight.size(1);
  expect(fits(transform.column_scale, {in}, weight),
         "column_scale is [I] with the weight's dtype and device");
  expect(fits(transform.row_scale, {out}, weight),
         "row_scale is [O] with the weight's dtype and device");
  if (grid.identity()) return;
  const std::int64_t ranges = out * grid.groups(in);
  expect(fits(transform.clip_upper, {ranges, 1}, weight),
         "clip_upper is [O * G, 1] with the weight's dtype and device");
  expect(fits(transform.clip_lower, {ranges, 1}, weight),
         "clip_lower is [O * G, 1] with the weight's dtype and device");
  expect(grid.bits >= 2, "a grid has at least 2 bits");
  expect(grid.symmetric || grid.group_size <= 0 || in % grid.group_size == 0,
         "a shorter last group needs a symmetric grid");
}

Tensor scaled(const Tensor& weight, const WeightTransform& transform) {
  Tensor result = weight;
  if (transform.column_scale.defined()) result = result * transform.column_scale;
  if (transform.row_scale.defined()) result = result * transform.row_scale.unsqueeze(1);
  return result;
}

// [O, I] -> [O * G, g]: one range a row, the last group of each padded with zeros.
Tensor ranges_of(const Tensor& weight, const Grid& grid) {
  if (grid.group_size <= 0) return weight;
  const std::int64_t padding = grid.groups(weight.size(1)) * grid.group_size - weight.size(1);
  const Tensor padded = padding == 0 ? weight : at::constant_pad_nd(weight, {0, padding});
  return padded.reshape({-1, grid.group_size});
}

// [O * G, g] -> [O, I], without the padding.
Tensor rows_of(const Tensor& ranges, std::int64_t out, std::int64_t in) {
  return ranges.reshape({out, -1}).narrow(1, 0, in).contiguous();
}

StepAndZero steps_of(const Tensor& ranges, const WeightTransform& transform, const Grid& grid) {
  Tensor low = ranges.amin(1, /*keepdim=*/true);
  Tensor high = ranges.amax(1, /*keepdim=*/true);
  if (grid.include_zero) {
    low = low.masked_fill(low.gt(0), 0);
    high = high.masked_fill(high.lt(0), 0);
  }
  if (transform.clip_lower.defined()) low = low * transform.clip_lower;
  if (transform.clip_upper.defined()) high = high * transform.clip_upper;
  return step_and_zero(low, high, grid);
}

Tensor round_ranges(const Tensor& ranges, const WeightTransform& transform, const Grid& grid) {
  const auto [step, zero] = steps_of(ranges, transform, grid);
  return RoundToGrid::apply(ranges, step, zero, grid.q_max());
}

// The grid of activations: no groups, and symmetric codes are signed without a zero point.
Grid grid_of_rows(const Grid& grid) {
  Grid result = grid;
  result.group_size = 0;
  if (result.symmetric) result.zero_point = false;
  return result;
}

// The clip of rows as that of a weight with so many.
WeightTransform clip_of_rows(const RowClip& clip, std::int64_t rows) {
  const auto spread = [rows](const Tensor& factor) {
    return factor.defined() ? factor.expand({rows, 1}) : factor;
  };
  return {.clip_upper = spread(clip.upper), .clip_lower = spread(clip.lower)};
}

void check_rows(const Tensor& x, const Grid& grid) {
  expect(x.dim() >= 1 && x.size(-1) > 0, "rows are [..., C] with C > 0");
  expect(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble,
         "rows to quantize are float32 or float64");
  expect(grid.bits >= 2, "a grid has at least 2 bits");
}

}  // namespace

Tensor scale_weight(const Tensor& weight, const WeightTransform& transform) {
  const Tensor product = scaled(weight, transform);
  return product.is_same(weight) ? weight.clone() : product;
}

Tensor fake_quant_weight_reference(const Tensor& weight, const WeightTransform& transform,
                                   const Grid& grid) {
  check(weight, transform, grid);
  if (grid.identity()) return scale_weight(weight, transform);
  return rows_of(round_ranges(ranges_of(scaled(weight, transform), grid), transform, grid),
                 weight.size(0), weight.size(1));
}

Tensor fake_quant_rows_reference(const Tensor& x, const Grid& grid, const RowClip& clip) {
  if (grid.identity()) return x;
  check_rows(x, grid);
  if (x.numel() == 0) return x.clone();
  const Tensor rows = x.reshape({-1, x.size(-1)});
  return round_ranges(rows, clip_of_rows(clip, rows.size(0)), grid_of_rows(grid))
      .reshape(x.sizes());
}

Tensor fake_quant_weight(const Tensor& weight, const WeightTransform& transform, const Grid& grid) {
  if (grid.identity() || !fused_serves(weight)) {
    return fake_quant_weight_reference(weight, transform, grid);
  }
  check(weight, transform, grid);
  return fake_quant_fused(weight, transform, grid);
}

Tensor fake_quant_rows(const Tensor& x, const Grid& grid, const RowClip& clip) {
  if (grid.identity() || !fused_serves(x) || x.numel() == 0) {
    return fake_quant_rows_reference(x, grid, clip);
  }
  check_rows(x, grid);
  const Tensor rows = x.reshape({-1, x.size(-1)});
  return fake_quant_fused(rows, clip_of_rows(clip, rows.size(0)), grid_of_rows(grid))
      .view(x.sizes());
}

Tensor dequantized(const QuantizedWeight& quantized, const Grid& grid) {
  const std::int64_t in = quantized.codes.size(1);
  const auto by_column = [&](const Tensor& by_group) {
    if (grid.group_size <= 0) return by_group;
    return by_group.repeat_interleave(grid.group_size, 1).narrow(1, 0, in);
  };
  const Tensor codes = quantized.codes.to(quantized.step.scalar_type());
  return (codes - by_column(quantized.zero)) * by_column(quantized.step);
}

QuantizedWeight quantize_weight(const Tensor& weight, const WeightTransform& transform,
                                const Grid& grid) {
  const c10::NoGradGuard no_grad;
  expect(!grid.identity(), "only a grid of at most 15 bits has codes");
  check(weight, transform, grid);
  const Tensor ranges = ranges_of(scaled(weight, transform), grid);
  const auto [step, zero] = steps_of(ranges, transform, grid);
  // A range with a NaN or an infinity has step NaN; its codes are of no use but must be integers.
  const Tensor codes = free_code(ranges, step, zero).clamp(0, grid.q_max()).nan_to_num(0.0);
  const std::int64_t out = weight.size(0);
  return {rows_of(codes, out, weight.size(1)).to(at::kInt), step.reshape({out, -1}),
          zero.reshape({out, -1})};
}

}  // namespace lrq::quant

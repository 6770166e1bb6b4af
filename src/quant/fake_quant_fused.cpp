#include "src/quant/fake_quant_fused.h"

#include <optional>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "src/quant/fake_quant_cpu.h"

namespace lrq::quant {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Where an operand stands among the arguments of forward.
enum Argument : std::size_t { kWeight, kColumnScale, kRowScale, kClipUpper, kClipLower };

const float* data_or_null(const Tensor& x) {
  return x.defined() ? x.const_data_ptr<float>() : nullptr;
}

Tensor contiguous_or_none(const std::optional<Tensor>& x) { return x ? x->contiguous() : Tensor(); }

// parts: contiguous, in the order of Argument.
cpu::Operands operands_of(const variable_list& parts) {
  return {.data = data_or_null(parts[kWeight]),
          .rows = parts[kWeight].size(0),
          .columns = parts[kWeight].size(1),
          .column_scale = data_or_null(parts[kColumnScale]),
          .row_scale = data_or_null(parts[kRowScale]),
          .clip_upper = data_or_null(parts[kClipUpper]),
          .clip_lower = data_or_null(parts[kClipLower])};
}

std::vector<std::int64_t> packed(const Grid& grid) {
  return {grid.bits, grid.symmetric, grid.zero_point, grid.include_zero, grid.group_size};
}

Grid unpacked(const std::vector<std::int64_t>& fields) {
  return {.bits = static_cast<int>(fields[0]),
          .symmetric = fields[1] != 0,
          .zero_point = fields[2] != 0,
          .include_zero = fields[3] != 0,
          .group_size = fields[4]};
}

struct FusedFakeQuant : torch::autograd::Function<FusedFakeQuant> {
  static Tensor forward(AutogradContext* ctx, const Tensor& weight,
                        const std::optional<Tensor>& column_scale,
                        const std::optional<Tensor>& row_scale,
                        const std::optional<Tensor>& clip_upper,
                        const std::optional<Tensor>& clip_lower, const Grid& grid) {
    variable_list parts = {weight.contiguous(), contiguous_or_none(column_scale),
                           contiguous_or_none(row_scale), contiguous_or_none(clip_upper),
                           contiguous_or_none(clip_lower)};
    const Tensor y = at::empty_like(parts[kWeight]);
    const Tensor bounds = at::empty({weight.size(0) * grid.groups(weight.size(1)), 2}, y.options());
    cpu::fake_quant_forward(operands_of(parts), grid, y.data_ptr<float>(), bounds.data_ptr<float>(),
                            cpu::best_instruction_set());
    parts.push_back(bounds);
    ctx->save_for_backward(std::move(parts));
    ctx->saved_data["grid"] = packed(grid);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const variable_list parts = ctx->get_saved_variables();
    const Grid grid = unpacked(ctx->saved_data["grid"].toIntVector());
    variable_list result(kClipLower + 2);  // the last for the grid, which has none
    std::size_t edge = 0;                  // counts the operands that there are
    for (std::size_t which = kWeight; which <= kClipLower; ++which) {
      if (!parts[which].defined()) continue;
      if (ctx->needs_input_grad(edge)) result[which] = at::empty_like(parts[which]);
      ++edge;
    }
    const auto room = [&](Argument which) {
      return result[which].defined() ? result[which].data_ptr<float>() : nullptr;
    };
    const Tensor dy = grad_out[0].contiguous();
    cpu::fake_quant_backward(operands_of(parts), grid, parts.back().const_data_ptr<float>(),
                             dy.const_data_ptr<float>(),
                             {.data = room(kWeight),
                              .column_scale = room(kColumnScale),
                              .row_scale = room(kRowScale),
                              .clip_upper = room(kClipUpper),
                              .clip_lower = room(kClipLower)},
                             cpu::best_instruction_set());
    return result;
  }
};

// An autograd function takes no undefined tensor.
std::optional<Tensor> optional_of(const Tensor& x) {
  return x.defined() ? std::optional<Tensor>(x) : std::nullopt;
}

}  // namespace

bool fused_serves(const Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

Tensor fake_quant_fused(const Tensor& weight, const WeightTransform& transform, const Grid& grid) {
  return FusedFakeQuant::apply(weight, optional_of(transform.column_scale),
                               optional_of(transform.row_scale), optional_of(transform.clip_upper),
                               optional_of(transform.clip_lower), grid);
}

}  // namespace lrq::quant

#include "src/models/rope.h"

#include <numbers>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace lrq::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor scale_llama3(const at::Tensor& frequency, const Llama3RopeScaling& scaling) {
  const auto context = static_cast<double>(scaling.original_max_position_embeddings);
  const double longest = context / scaling.low_freq_factor;    // slower channels: fully scaled
  const double shortest = context / scaling.high_freq_factor;  // faster channels: left alone
  const at::Tensor wavelength = (2.0 * std::numbers::pi) / frequency;
  const at::Tensor scaled = at::where(wavelength > longest, frequency / scaling.factor, frequency);
  const at::Tensor smooth = (context / wavelength - scaling.low_freq_factor) /
                            (scaling.high_freq_factor - scaling.low_freq_factor);
  const at::Tensor blended = (1.0 - smooth) * scaled / scaling.factor + smooth * scaled;
  const at::Tensor between = (wavelength >= shortest).logical_and(wavelength <= longest);
  return at::where(between, blended, scaled);
}

/// Write the turned pairs of `from` into `to`; both [1, H, T, D] in any layout.
void turn(const at::Tensor& from, const at::Tensor& to, const RopeAngles& angles, double sign) {
  const std::int64_t half = from.size(-1) / 2;
  const at::Tensor low = from.narrow(-1, 0, half);
  const at::Tensor high = from.narrow(-1, half, half);
  at::Tensor to_low = to.narrow(-1, 0, half);
  at::Tensor to_high = to.narrow(-1, half, half);
  at::mul_out(to_low, low, angles.cos).addcmul_(high, angles.sin, -sign);
  at::mul_out(to_high, high, angles.cos).addcmul_(low, angles.sin, sign);
}

struct RotateHeads : torch::autograd::Function<RotateHeads> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, std::int64_t heads,
                            const at::Tensor& cos, const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    const at::Tensor split = x.view({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
    const at::Tensor turned = at::empty(split.sizes(), split.options());
    turn(split, turned, {cos, sin}, 1.0);
    return turned;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grad_out) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& grad = grad_out[0];  // [1, H, T, D]
    const at::Tensor back =
        at::empty({grad.size(0), grad.size(2), grad.size(1), grad.size(3)}, grad.options());
    turn(grad, back.transpose(1, 2), {saved[0], saved[1]}, -1.0);
    return {back.flatten(2), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor inverse_frequencies(const ModelConfig& config, at::ScalarType dtype) {
  const at::Tensor even = at::arange(0, config.head_dim, 2, at::device(at::kCPU).dtype(at::kLong));
  const at::Tensor power = even.to(dtype) / static_cast<double>(config.head_dim);
  const at::Tensor frequency = 1.0 / at::pow(config.rope_theta, power);
  return config.rope_scaling ? scale_llama3(frequency, *config.rope_scaling) : frequency;
}

RopeAngles RopeTable::angles(std::int64_t tokens, at::ScalarType dtype,
                             const at::Device& device) const {
  const std::scoped_lock lock(mutex_);
  const bool kept = newest_.cos.defined() && newest_.cos.size(0) == tokens &&
                    newest_.cos.scalar_type() == dtype && newest_.cos.device() == device;
  if (!kept) {
    const at::Tensor position = at::arange(tokens, at::device(at::kCPU).dtype(dtype));
    const at::Tensor angle = position.unsqueeze(1) * inverse_frequencies(config_, dtype);
    newest_ = {angle.cos().to(device), angle.sin().to(device)};
  }
  return newest_;
}

at::Tensor rotate_heads(const at::Tensor& x, std::int64_t heads, const RopeAngles& angles) {
  return RotateHeads::apply(x, heads, angles.cos, angles.sin);
}

}  // namespace lrq::models

#include "src/pipeline/adamw.h"

#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/pipeline/masked.h"

namespace lrq::pipeline {

AdamW::AdamW(at::Tensor parameters, at::Tensor rates, double weight_decay)
    : parameters_(std::move(parameters)),
      rates_(std::move(rates)),
      weight_decay_(weight_decay),
      first_(at::zeros_like(parameters_)),
      second_(at::zeros_like(parameters_)),
      steps_(at::zeros({}, parameters_.options().dtype(at::kDouble))) {
  expect(parameters_.dim() == 1 && parameters_.sizes() == rates_.sizes(),
         "AdamW takes flat parameters and one rate for each");
}

void AdamW::step(const at::Tensor& gradient, const at::Tensor& finite, double rate_factor) {
  const c10::NoGradGuard no_grad;
  expect(gradient.sizes() == parameters_.sizes(), "AdamW: one gradient for each parameter");
  const at::Tensor steps = steps_ + 1.0;
  const at::Tensor first = first_ * kBeta1 + gradient * (1.0 - kBeta1);
  const at::Tensor second = second_ * kBeta2 + gradient * gradient * (1.0 - kBeta2);
  const at::Tensor correction1 = (1.0 - at::pow(kBeta1, steps)).to(at::kFloat);
  const at::Tensor correction2 = (1.0 - at::pow(kBeta2, steps)).sqrt().to(at::kFloat);
  const at::Tensor rates = rates_ * rate_factor;
  const at::Tensor denominator = (second.sqrt() / correction2).add_(kEps);
  at::Tensor stepped = parameters_;
  if (weight_decay_ != 0.0) stepped = stepped * (1.0 - rates * weight_decay_);
  stepped = stepped - (rates / correction1) * (first / denominator);
  // Copies in place: the leaves are views of parameters_, and select() keeps the old values if
  // masked.
  parameters_.copy_(select(finite, stepped, parameters_));
  first_.copy_(select(finite, first, first_));
  second_.copy_(select(finite, second, second_));
  steps_.copy_(select(finite, steps, steps_));
}

void AdamW::restore(const at::Tensor& first, const at::Tensor& second, const at::Tensor& steps) {
  const c10::NoGradGuard no_grad;
  first_.copy_(first);
  second_.copy_(second);
  steps_.copy_(steps);
}

}  // namespace lrq::pipeline

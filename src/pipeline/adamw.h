#pragma once

#include <ATen/core/Tensor.h>

namespace lrq::pipeline {

/// Step all learnables of a block at once, as one flat vector.
///   p <- p * (1 - lr * wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
///   p <- p - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
/// Source: AdamW (Loshchilov and Hutter), bias-corrected, as PyTorch orders it.
/// Nothing synchronises with the host: a masked step is decided on the device.
class AdamW {
 public:
  static constexpr double kBeta1 = 0.9;
  static constexpr double kBeta2 = 0.999;
  static constexpr double kEps = 1e-8;

  /// parameters [n] float32: stepped in place, shared with the leaves that are views of it.
  /// rates [n] float32: each entry's learning rate; 0 keeps an entry as it is.
  AdamW(at::Tensor parameters, at::Tensor rates, double weight_decay);

  /// gradient [n].  finite [] bool: where false, parameters, moments and step count stay as they
  /// are.  rate_factor multiplies every rate (a schedule).
  void step(const at::Tensor& gradient, const at::Tensor& finite, double rate_factor = 1.0);

  // State, for snapshots; assigned in place.
  [[nodiscard]] const at::Tensor& first_moment() const { return first_; }    ///< [n]
  [[nodiscard]] const at::Tensor& second_moment() const { return second_; }  ///< [n]
  [[nodiscard]] const at::Tensor& steps() const { return steps_; }           ///< [] float64
  void restore(const at::Tensor& first, const at::Tensor& second, const at::Tensor& steps);

 private:
  at::Tensor parameters_;
  at::Tensor rates_;
  double weight_decay_;
  at::Tensor first_;
  at::Tensor second_;
  at::Tensor steps_;
};

}  // namespace lrq::pipeline

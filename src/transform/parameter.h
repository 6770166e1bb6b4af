#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

// What the kinds share in handling their parameters.
namespace lrq::transform {

/// The parameter in an operand's dtype; gradient passes, nothing is copied if it has it already.
/// Throws BugError if it lies on another device: a chain is moved once, not at every use.
[[nodiscard]] at::Tensor as_operand(const at::Tensor& parameter, const at::Tensor& operand);

/// View an operand [..., C] as [M, width]; C is a multiple of width.
[[nodiscard]] at::Tensor as_rows(const at::Tensor& operand, std::int64_t width);

/// What is wrong with a parameter that should be a finite float32 or float64 [length], "" if
/// nothing.
[[nodiscard]] std::string vector_problem(const at::Tensor& parameter, std::int64_t length);

/// What is wrong with a parameter's dtype, which should be float32 or float64, or the type named;
/// "" if nothing.
[[nodiscard]] std::string float_problem(const at::Tensor& parameter);
[[nodiscard]] std::string dtype_problem(const at::Tensor& parameter, at::ScalarType wanted);

}  // namespace lrq::transform

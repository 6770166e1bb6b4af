#include "src/transform/hadamard.h"

#include <bit>
#include <cmath>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

// Up to here one small matrix product is as fast as log2(n) passes over memory.
constexpr std::int64_t kLargestMatrix = 128;

bool power_of_two(std::int64_t n) { return n > 0 && std::has_single_bit(std::uint64_t(n)); }

at::Tensor hadamard_matrix(std::int64_t n, const at::TensorOptions& options) {
  at::Tensor signs = at::ones({1, 1}, options);
  for (std::int64_t size = 1; size < n; size *= 2) {
    signs = at::cat({at::cat({signs, signs}, 1), at::cat({signs, -signs}, 1)}, 0);
  }
  return signs / std::sqrt(static_cast<double>(n));
}

// rows [M, n] -> rows H_n; beyond kLargestMatrix by H_ab = H_a (x) H_b.
at::Tensor transform_rows(const at::Tensor& rows, std::int64_t n) {
  if (n <= kLargestMatrix) return rows.mm(hadamard_matrix(n, rows.options().requires_grad(false)));
  const std::int64_t outer = n / kLargestMatrix;
  const at::Tensor inside = transform_rows(as_rows(rows, kLargestMatrix), kLargestMatrix);
  const at::Tensor across = inside.reshape({-1, outer, kLargestMatrix}).transpose(1, 2);
  const at::Tensor both = transform_rows(across.reshape({-1, outer}), outer);
  return both.reshape({-1, kLargestMatrix, outer}).transpose(1, 2).reshape({-1, n}).contiguous();
}

at::Tensor transform(const at::Tensor& parameter, const at::Tensor& x) {
  return hadamard_transform(parameter.item<std::int64_t>(), x);
}

std::string hadamard_problem(const at::Tensor& parameter, std::int64_t channels) {
  if (std::string text = dtype_problem(parameter, at::kLong); !text.empty()) return text;
  if (parameter.numel() != 1) {
    return concat("shape ", format_list(parameter.sizes()), ", not one block size");
  }
  const auto n = parameter.item<std::int64_t>();
  if (!power_of_two(n)) return concat("block size ", n, " is no power of two");
  if (channels % n != 0) {
    return concat("block size ", n, " does not divide ", channels, " channels");
  }
  return "";
}

}  // namespace

at::Tensor hadamard_transform(std::int64_t n, const at::Tensor& x) {
  expect(power_of_two(n), "the size of a Hadamard matrix is a power of two");
  return transform_rows(as_rows(x, n), n).reshape(x.sizes());
}

std::int64_t hadamard_size(std::int64_t head_dim) {
  expect(head_dim > 0, "a head has channels");
  return head_dim & -head_dim;
}

at::Tensor hadamard_parameter(std::int64_t n) {
  return at::full({1}, n, at::device(at::kCPU).dtype(at::kLong));
}

const Kind& hadamard_kind() {
  static constexpr Kind kKind = {.name = "hadamard",
                                 .apply = transform,
                                 .invert = transform,
                                 .fold = transform,
                                 .unfold = transform,
                                 .bias_term = nullptr,
                                 .orthogonal = true,
                                 .problem = hadamard_problem};
  return kKind;
}

}  // namespace lrq::transform

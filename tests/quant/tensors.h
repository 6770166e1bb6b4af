#pragma once

#include <initializer_list>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

namespace lrq::testing {

using Values = std::vector<double>;
using Matrix = std::vector<Values>;

/// A vector [n] or a matrix [m, n] from numbers that a reader checks by eye.
inline at::Tensor vector_of(const Values& values, at::ScalarType dtype = at::kFloat) {
  return at::tensor(values, at::kDouble).to(dtype);
}

/// The same in float64.
inline at::Tensor vector64(const Values& values) { return vector_of(values, at::kDouble); }

inline at::Tensor matrix_of(const Matrix& rows, at::ScalarType dtype = at::kFloat) {
  std::vector<at::Tensor> parts;
  for (const Values& row : rows) parts.push_back(vector_of(row, dtype));
  return at::stack(parts);
}

inline at::Tensor matrix64(const Matrix& rows) { return matrix_of(rows, at::kDouble); }

/// A leaf that collects gradient.
inline at::Tensor leaf(const at::Tensor& value) {
  return value.detach().clone().set_requires_grad(true);
}

/// Normal numbers that depend on the seed alone.
inline at::Tensor random(at::IntArrayRef shape, std::uint64_t seed,
                         at::ScalarType dtype = at::kFloat) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator, at::TensorOptions().dtype(dtype));
}

/// |actual - expected| <= absolute + relative * |expected|; expected takes actual's dtype.
inline void expect_close(const at::Tensor& actual, const at::Tensor& expected, double relative,
                         double absolute) {
  ASSERT_TRUE(actual.defined());
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(actual, expected.to(actual.scalar_type()), relative, absolute))
      << "actual\n"
      << actual << "\nexpected\n"
      << expected;
}

/// Tolerance of the specification's float32 vectors.
inline void expect_vector(const at::Tensor& actual, const at::Tensor& expected) {
  expect_close(actual, expected, 1e-6, 1e-7);
}

}  // namespace lrq::testing

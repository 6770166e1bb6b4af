#include "src/transform/rotation.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/transform/parameter.h"

namespace lrq::transform {
namespace {

constexpr std::int64_t kLargestAutoBlock = 128;

std::string rotation_problem(const at::Tensor& rotation, std::int64_t channels) {
  if (std::string text = float_problem(rotation); !text.empty()) return text;
  const std::int64_t dims = rotation.dim();
  const std::int64_t block = dims == 2 || dims == 3 ? rotation.size(-1) : 0;
  if (block == 0 || rotation.size(-2) != block) {
    return concat("shape ", format_list(rotation.sizes()), ", not [B, B] or [C / B, B, B]");
  }
  if (channels % block != 0) {
    return concat("block size ", block, " does not divide ", channels, " channels");
  }
  if (dims == 3 && rotation.size(0) != channels / block) {
    return concat(rotation.size(0), " blocks, not ", channels / block);
  }
  const double departure = departure_from_orthogonal(rotation);
  if (departure < kLargestDeparture) return "";  // false for NaN
  return concat("not orthogonal: |R R' - I| is ", departure);
}

}  // namespace

at::Tensor rotate(const at::Tensor& rotation, const at::Tensor& x) {
  expect(rotation.dim() == 2 || rotation.dim() == 3, "a rotation is [B, B] or [C / B, B, B]");
  const at::Tensor matrix = as_operand(rotation, x);
  const std::int64_t block = matrix.size(-1);
  if (matrix.dim() == 2) return as_rows(x, block).mm(matrix).reshape(x.sizes());
  const std::int64_t blocks = matrix.size(0);
  expect(x.size(-1) == blocks * block, "a rotation has another number of blocks");
  const at::Tensor by_block = as_rows(x, block).reshape({-1, blocks, block}).transpose(0, 1);
  // Blocks of one channel or one token come back as a view unless told otherwise.
  return at::bmm(by_block, matrix).transpose(0, 1).reshape(x.sizes()).contiguous();
}

at::Tensor rotate_back(const at::Tensor& rotation, const at::Tensor& x) {
  return rotate(rotation.transpose(-2, -1), x);
}

double departure_from_orthogonal(const at::Tensor& rotation) {
  const c10::NoGradGuard no_grad;
  const at::Tensor matrix = rotation.to(at::kDouble);
  const at::Tensor product = at::matmul(matrix, matrix.transpose(-2, -1));
  const at::Tensor unit = at::eye(matrix.size(-1), matrix.options());
  return (product - unit).abs().max().item<double>();
}

std::int64_t auto_block_size(std::int64_t channels) {
  expect(channels > 0, "channels are a positive number");
  return std::min(channels & -channels, kLargestAutoBlock);
}

const Kind& rotation_kind() {
  static constexpr Kind kKind = {.name = "rotation",
                                 .apply = rotate,
                                 .invert = rotate_back,
                                 .fold = rotate,
                                 .unfold = rotate_back,
                                 .bias_term = nullptr,
                                 .orthogonal = true,
                                 .problem = rotation_problem};
  return kKind;
}

}  // namespace lrq::transform

#include "src/transform/parameter.h"

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::transform {

at::Tensor as_operand(const at::Tensor& parameter, const at::Tensor& operand) {
  expect(parameter.device() == operand.device(),
         "a transform's parameter is on its operand's device");
  return parameter.to(operand.scalar_type());
}

at::Tensor as_rows(const at::Tensor& operand, std::int64_t width) {
  expect(width > 0 && operand.dim() > 0 && operand.size(-1) % width == 0,
         "the channels are not a multiple of a transform's width");
  return operand.reshape({operand.numel() / width, width});
}

std::string float_problem(const at::Tensor& parameter) {
  if (!parameter.defined()) return "no tensor";
  const at::ScalarType dtype = parameter.scalar_type();
  if (dtype == at::kFloat || dtype == at::kDouble) return "";
  return concat("dtype ", at::toString(dtype), ", not Float or Double");
}

std::string dtype_problem(const at::Tensor& parameter, at::ScalarType wanted) {
  if (!parameter.defined()) return "no tensor";
  if (parameter.scalar_type() == wanted) return "";
  return concat("dtype ", at::toString(parameter.scalar_type()), ", not ", at::toString(wanted));
}

std::string vector_problem(const at::Tensor& parameter, std::int64_t length) {
  if (const std::string dtype = float_problem(parameter); !dtype.empty()) return dtype;
  if (parameter.dim() != 1 || parameter.size(0) != length) {
    return concat("shape ", format_list(parameter.sizes()), ", not [", length, "]");
  }
  if (!parameter.isfinite().all().item<bool>()) return "a value is not finite";
  return "";
}

}  // namespace lrq::transform

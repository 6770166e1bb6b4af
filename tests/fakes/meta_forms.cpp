#include "tests/fakes/meta_forms.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>

namespace lrq {
namespace {

void check_meta(std::initializer_list<at::Tensor> operands) {
  for (const at::Tensor& t : operands) {
    TORCH_CHECK(!t.defined() || t.is_meta(), "an operation on the meta device meets a tensor on ",
                t.device());
  }
}

at::Tensor& fill_like(const at::Tensor& self, at::Tensor& out) {
  check_meta({self, out});
  out.resize_(self.sizes());
  return out;
}

at::Tensor like(const at::Tensor& self) {
  check_meta({self});
  return at::empty_like(self);
}

at::Tensor index_select(const at::Tensor& self, std::int64_t dim, const at::Tensor& index) {
  check_meta({self, index});
  std::vector<std::int64_t> sizes = self.sizes().vec();
  sizes[static_cast<std::size_t>(at::maybe_wrap_dim(dim, self.dim()))] = index.numel();
  return at::empty(sizes, self.options());
}

at::Tensor where(const at::Tensor& condition, const at::Tensor& yes, const at::Tensor& no) {
  check_meta({condition, yes, no});
  const auto both = at::infer_size(yes.sizes(), no.sizes());
  return at::empty(at::infer_size(condition.sizes(), both),
                   yes.options().dtype(at::result_type(yes, no)));
}

using ThreeTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

ThreeTensors layer_norm(const at::Tensor& x, at::IntArrayRef shape,
                        const std::optional<at::Tensor>& weight,
                        const std::optional<at::Tensor>& bias, double /*eps*/) {
  check_meta({x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())});
  std::vector<std::int64_t> rows = x.sizes().vec();
  std::fill(rows.end() - static_cast<std::ptrdiff_t>(shape.size()), rows.end(), 1);
  return {at::empty_like(x), at::empty(rows, x.options()), at::empty(rows, x.options())};
}

ThreeTensors layer_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                 at::IntArrayRef /*shape*/, const at::Tensor& mean,
                                 const at::Tensor& rstd, const std::optional<at::Tensor>& weight,
                                 const std::optional<at::Tensor>& bias,
                                 std::array<bool, 3> wanted) {
  check_meta({grad, x, mean, rstd, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())});
  return {wanted[0] ? at::empty_like(x) : at::Tensor(),
          wanted[1] ? at::empty_like(*weight) : at::Tensor(),
          wanted[2] ? at::empty_like(*bias) : at::Tensor()};
}

}  // namespace

void add_meta_forms() {
  static const auto kLibrary = [] {
    auto forms = std::make_unique<torch::Library>(torch::Library::IMPL, "aten",
                                                  c10::DispatchKey::Meta, __FILE__, __LINE__);
    forms->impl("abs.out", &fill_like);
    forms->impl("relu", &like);
    forms->impl("index_select", &index_select);
    forms->impl("where.self", &where);
    forms->impl("native_layer_norm", &layer_norm);
    forms->impl("native_layer_norm_backward", &layer_norm_backward);
    return forms;
  }();
}

}  // namespace lrq

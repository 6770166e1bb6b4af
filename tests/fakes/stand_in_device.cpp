#include "tests/fakes/stand_in_device.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

namespace lrq {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kType, 0);

class Memory final : public at::Allocator {
 public:
  at::DataPtr allocate(std::size_t bytes) override {
    void* data = c10::alloc_cpu(bytes);
    return {data, data, &c10::free_cpu, kDevice};
  }
  [[nodiscard]] at::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

Memory& memory() {
  static Memory one;
  return one;
}

/// One device, one stream, and nothing that is ever waited for.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<kType> {
  [[nodiscard]] c10::Device exchangeDevice(c10::Device /*device*/) const override {
    return kDevice;
  }
  [[nodiscard]] c10::Device getDevice() const override { return kDevice; }
  [[nodiscard]] c10::Stream getStream(c10::Device /*device*/) const noexcept override {
    return stream();
  }
  [[nodiscard]] c10::Stream getNewStream(c10::Device /*device*/, int /*priority*/) const override {
    return stream();
  }
  [[nodiscard]] c10::Stream exchangeStream(c10::Stream /*stream*/) const noexcept override {
    return stream();
  }
  void record(void** /*event*/, const c10::Stream& /*stream*/, c10::DeviceIndex /*device*/,
              c10::EventFlag /*flag*/) const override {}
  void block(void* /*event*/, const c10::Stream& /*stream*/) const override {}
  [[nodiscard]] bool queryEvent(void* /*event*/) const override { return true; }
  [[nodiscard]] static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

/// Autograd asks them whether the device has streams to wait for.
struct Hooks final : at::PrivateUse1HooksInterface {
  [[nodiscard]] bool isBuilt() const override { return true; }
  [[nodiscard]] bool isAvailable() const override { return true; }
  [[nodiscard]] bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
};

at::Tensor make_empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                      std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                      std::optional<bool> /*pinned*/, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   dtype.value_or(at::kFloat), format);
}

at::Tensor make_strided(at::IntArrayRef size, at::IntArrayRef stride,
                        std::optional<at::ScalarType> dtype, std::optional<at::Layout> /*layout*/,
                        std::optional<at::Device> /*device*/, std::optional<bool> /*pinned*/) {
  return at::detail::empty_strided_generic(size, stride, &memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           dtype.value_or(at::kFloat));
}

/// The same memory as the CPU sees it.
at::Tensor seen_by_cpu(const at::Tensor& t) {
  if (t.device().is_cpu()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(),
                       at::device(at::kCPU).dtype(t.scalar_type()));
}

at::Tensor& copy_into(at::Tensor& self, const at::Tensor& from, bool /*non_blocking*/) {
  seen_by_cpu(self).copy_(seen_by_cpu(from));
  return self;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool /*non_blocking*/) {
  seen_by_cpu(to).copy_(seen_by_cpu(from));
  return to;
}

const at::Tensor& resize_to(const at::Tensor& self, at::IntArrayRef size,
                            std::optional<at::MemoryFormat> /*format*/) {
  at::TensorImpl* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  const auto bytes = static_cast<std::size_t>(self.numel()) * self.element_size();
  c10::StorageImpl* storage = self.storage().unsafeGetStorageImpl();
  if (storage->nbytes() < bytes) {  // what it held is about to be overwritten
    storage->set_data_ptr_noswap(memory().allocate(bytes));
    storage->set_nbytes(bytes);
  }
  return self;  // NOLINT(bugprone-return-const-ref-from-parameter): LibTorch's own form
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) resize_to(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

void check_tensor(const at::Tensor& t, const c10::OperatorHandle& op) {
  if (!t.defined() || t.device() == kDevice || t.unsafeGetTensorImpl()->is_wrapped_number()) return;
  TORCH_CHECK(false, op.schema().name(), " on the stand-in device meets a tensor ", t.sizes(),
              " on ", t.device());
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto count = op.schema().arguments().size();
  for (const c10::IValue& value : torch::jit::last(*stack, count)) {
    if (value.isTensor()) check_tensor(value.toTensor(), op);
    if (value.isTensorList()) {
      for (const at::Tensor& t : value.toTensorVector()) check_tensor(t, op);
    }
  }
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &make_empty);
  m.impl("empty_strided", &make_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("resize_", &resize_to);
  m.impl("copy_", &copy_into);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
}

class Received final : public dist::Pending {
 public:
  Received(std::unique_ptr<dist::Pending> pending, at::Tensor host, at::Tensor into)
      : pending_(std::move(pending)), host_(std::move(host)), into_(std::move(into)) {}
  void wait() override {
    pending_->wait();
    into_.copy_(host_);
  }

 private:
  std::unique_ptr<dist::Pending> pending_;
  at::Tensor host_;
  at::Tensor into_;
};

class StandInTransport final : public dist::Transport {
 public:
  explicit StandInTransport(dist::Transport& hosts) : hosts_(hosts) {}
  [[nodiscard]] Rank rank() const override { return hosts_.rank(); }
  [[nodiscard]] int size() const override { return hosts_.size(); }
  [[nodiscard]] std::string_view name() const override { return "stand-in"; }
  [[nodiscard]] std::unique_ptr<dist::Pending> send(const at::Tensor& t, Rank to,
                                                    std::string_view label) override {
    return hosts_.send(t.detach().to(at::kCPU), to, label);
  }
  [[nodiscard]] std::unique_ptr<dist::Pending> recv(const at::Tensor& into, Rank from,
                                                    std::string_view label) override {
    if (into.device().is_cpu()) return hosts_.recv(into, from, label);
    at::Tensor host = at::empty(into.sizes(), at::device(at::kCPU).dtype(into.scalar_type()));
    auto pending = hosts_.recv(host, from, label);
    return std::make_unique<Received>(std::move(pending), std::move(host), into);
  }
  void abort(int exit_code) noexcept override { hosts_.abort(exit_code); }
  [[nodiscard]] std::chrono::nanoseconds waited() const override { return hosts_.waited(); }

 private:
  dist::Transport& hosts_;
};

}  // namespace

c10::Device stand_in_device() {
  static const bool kRegistered = [] {
    static Hooks hooks;
    at::RegisterPrivateUse1HooksInterface(&hooks);
    c10::register_privateuse1_backend("standin");
    return true;
  }();
  (void)kRegistered;
  return kDevice;
}

std::unique_ptr<dist::Transport> make_stand_in_transport(dist::Transport& hosts) {
  return std::make_unique<StandInTransport>(hosts);
}

}  // namespace lrq

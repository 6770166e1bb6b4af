#include "src/pipeline/host_memory.h"

#include <ATen/ATen.h>

namespace lrq::pipeline {

SampleReader::SampleReader(const RunContext& context, const io::Boundary& boundary)
    : reader_(context.activations.open(boundary, context.samples)), device_(context.device()) {}

at::Tensor SampleReader::read(std::int64_t sample) const {
  return reader_->read(sample).to(device_);
}

std::function<at::Tensor(const at::Tensor&)> place_of_reads(const RunContext& context) {
  if (!context.device().is_cuda()) return nullptr;
  return [](const at::Tensor& sample) { return sample.pin_memory(); };
}

at::Tensor on_device_of(const RunContext& context, const at::Tensor& sample) {
  // A copy that is under way holds on to its page-locked memory.
  return sample.to(context.device(), sample.scalar_type(),
                   /*non_blocking=*/context.device().is_cuda());
}

at::Tensor on_host(const at::Tensor& tensor) { return tensor.to(at::kCPU); }

models::NamedTensors on_host(const models::NamedTensors& tensors) {
  models::NamedTensors copies;
  for (const auto& [name, tensor] : tensors) copies.emplace(name, on_host(tensor));
  return copies;
}

}  // namespace lrq::pipeline

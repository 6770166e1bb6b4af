#include "src/pipeline/host_memory.h"

#include <ATen/ATen.h>

namespace lrq::pipeline {

SampleReader::SampleReader(const RunContext& context, const io::Boundary& boundary)
    : reader_(context.activations.open(boundary, context.samples)), device_(context.device()) {}

at::Tensor SampleReader::read(std::int64_t sample) const {
  return reader_->read(sample).to(device_);
}

void write_sample(io::ShardWriter& shard, std::int64_t sample, const at::Tensor& activation) {
  shard.write(sample, activation.to(at::kCPU));
}

models::NamedTensors on_host(const models::NamedTensors& tensors) {
  models::NamedTensors copies;
  for (const auto& [name, tensor] : tensors) copies.emplace(name, tensor.to(at::kCPU));
  return copies;
}

}  // namespace lrq::pipeline

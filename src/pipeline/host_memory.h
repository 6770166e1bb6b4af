#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <ATen/core/Tensor.h>

#include "io/activation_store.h"
#include "src/models/family.h"
#include "src/pipeline/run_context.h"

namespace lrq::pipeline {

/// Where tensors pass between host memory, all that files know, and the device of a run.  Weights
/// pass in ModelSource, learnables in models::on_device.  On the CPU nothing is copied.

/// The samples of a boundary, read and checked in host memory, on the run's device.
class SampleReader {
 public:
  /// Throws DataError if the sealed shards do not hold exactly the run's samples.
  SampleReader(const RunContext& context, const io::Boundary& boundary);
  /// Newly allocated [1, T, C].  Throws DataError if the sample is missing or its CRC32C differs.
  [[nodiscard]] at::Tensor read(std::int64_t sample) const;

 private:
  std::unique_ptr<io::BoundaryReader> reader_;
  at::Device device_;
};

/// What the thread that reads ahead does with a sample: on the way to a GPU it goes to page-locked
/// memory, from which the copy runs beside the computing thread; null on other devices.
[[nodiscard]] std::function<at::Tensor(const at::Tensor&)> place_of_reads(
    const RunContext& context);

/// A sample that a thread has read ahead, on the run's device.
[[nodiscard]] at::Tensor on_device_of(const RunContext& context, const at::Tensor& sample);

/// What a file is to hold.
[[nodiscard]] at::Tensor on_host(const at::Tensor& tensor);
[[nodiscard]] models::NamedTensors on_host(const models::NamedTensors& tensors);

}  // namespace lrq::pipeline

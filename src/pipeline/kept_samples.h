#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include <ATen/core/Tensor.h>

#include "io/activation_store.h"

namespace lrq::pipeline {

/// Samples that a rank has read and keeps in host memory (Targets::kMemory), until their wave is
/// frozen.  Threads: any.
class KeptSamples {
 public:
  /// [1, T, C], which nobody changes; undefined if it is not kept.
  [[nodiscard]] at::Tensor find(const io::Boundary& boundary, std::int64_t sample) const;
  void keep(const io::Boundary& boundary, std::int64_t sample, at::Tensor activation);
  void clear();

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<io::Boundary, std::int64_t>, at::Tensor> samples_;
};

/// Samples of a boundary, from memory where they are kept, else by `reader`.
enum class Keep { kNo, kYes };  ///< what is read: not, or until clear()
[[nodiscard]] std::unique_ptr<io::BoundaryReader> kept_reader(
    KeptSamples& samples, const io::Boundary& boundary, std::unique_ptr<io::BoundaryReader> reader,
    Keep keep);

}  // namespace lrq::pipeline

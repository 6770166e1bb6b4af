#pragma once

#include <mutex>
#include <utility>

#include <ATen/core/Tensor.h>

#include "src/models/model_config.h"

namespace lrq::models {

/// Compute the rotary inverse frequencies, theta^(-2j/D) for j < D/2, changed as rope_scaling says.
/// Source: Hugging Face transformers, in the order of its operations, so that float32 is equal.
/// dtype float32 (what models run on) or float64 (tests).  Returns [D/2] on the CPU.
[[nodiscard]] at::Tensor inverse_frequencies(const ModelConfig& config, at::ScalarType dtype);

/// cos and sin of position * frequency.
struct RopeAngles {
  at::Tensor cos;  ///< [T, D/2]
  at::Tensor sin;  ///< [T, D/2]
};

/// Angles of the newest length asked for, kept, as every block of a run asks for the same.
/// Computed on the CPU, so that every device turns by the same angles.
/// Threads: any; guarded.
class RopeTable {
 public:
  explicit RopeTable(ModelConfig config) : config_(std::move(config)) {}
  [[nodiscard]] RopeAngles angles(std::int64_t tokens, at::ScalarType dtype,
                                  const at::Device& device) const;

 private:
  ModelConfig config_;
  mutable std::mutex mutex_;
  mutable RopeAngles newest_;
};

/// Turn the channel pairs (j, j + D/2) of each head, position t by angle (t, j).
///   y_j = x_j cos - x_(j+D/2) sin,   y_(j+D/2) = x_(j+D/2) cos + x_j sin
/// Source: RoFormer, in the half-split order of Hugging Face.  The gradient is the turn back.
/// x [1, T, H * D] as a projection returns it; angles in its dtype.
/// Returns [1, H, T, D] contiguous: splitting and transposing cost no pass of their own.
[[nodiscard]] at::Tensor rotate_heads(const at::Tensor& x, std::int64_t heads,
                                      const RopeAngles& angles);

}  // namespace lrq::models

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"
#include "src/quant/loss.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// The replicas that share every micro-batch of a block, each with an equal part of its samples.
struct Replicas {
  std::int64_t count = 1;  ///< R, a power of two
  /// Sum a tensor over them, in place, going on with the tree of the micro-batch above each
  /// replica's part; called in the same order on each.
  std::function<void(const at::Tensor&)> sum = [](const at::Tensor&) {};
};

/// What a block learns to lower.  For one sample, with O the quantized block's output, P the target
/// of the full-precision chain and R the original block on O's own input:
///   l1 = mse_p MSE(P,O) + mse_r MSE(R,O),   l2 = nlc_p NLC(P,O) + nlc_r NLC(R,O)
///   balance "sum": L = l1 + l2
///   balance "ema": L = l1 / (e1 + 1e-6) + l2 / (e2 + 1e-6),  e <- 0.95 e + 0.05 l, taken once a
///     step from the mean over its samples, before dividing; 1 at the start; no gradient through e
/// Source: LRQuant section 5, 5.1; docs/methods.md, "Loss".
class BlockObjective {
 public:
  /// weights: of the block, float32, by name; used only for R.
  BlockObjective(const models::Family& family, const models::NamedTensors& weights,
                 const recipe::Recipe& recipe, at::ScalarType compute);

  /// Let go of the original block, and have it again: between steps.
  void drop_original() { original_.reset(); }
  void hold_original(const models::NamedTensors& weights, at::ScalarType compute);

  /// The terms of one sample; l1 and l2 carry gradient and are undefined where they weigh nothing.
  struct Terms {
    at::Tensor mse;       ///< [] l1
    at::Tensor nlc;       ///< [] l2
    at::Tensor measured;  ///< [2] float64 without gradient: MSE(P,O), NLC(P,O), for the log
  };
  [[nodiscard]] Terms measure(const at::Tensor& output, const at::Tensor& target,
                              const at::Tensor& input) const;

  /// True where a step must know all its samples' terms before it can go back through one.
  [[nodiscard]] bool balances() const { return ema_; }
  /// The averages after this step, [2] float64; undefined without balance.  samples: this replica's
  /// part of the micro-batch.
  [[nodiscard]] at::Tensor averages_after(std::span<const Terms> samples,
                                          const Replicas& replicas = {}) const;
  /// L of one sample under the averages of averages_after.
  [[nodiscard]] static at::Tensor combine(const Terms& terms, const at::Tensor& averages);

  /// The averages so far, [2] float64: part of the state that the next step reads.
  [[nodiscard]] at::Tensor& averages() { return averages_; }
  [[nodiscard]] const at::Tensor& averages() const { return averages_; }

 private:
  const models::Family& family_;  // Owns: borrowed from the run's ModelSource
  recipe::Recipe::Loss weight_;
  quant::NlcOptions nlc_;
  quant::TokenWeightOptions tokens_;
  bool ema_;
  std::optional<models::EffectiveBlock> original_;  // only for the homologous terms
  at::Tensor averages_;
};

}  // namespace lrq::pipeline

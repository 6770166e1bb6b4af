#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"
#include "src/pipeline/adamw.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// How a block learns: the recipe, the dtypes, and how many steps there will be.
struct TrainSettings {
  recipe::Recipe recipe;
  at::ScalarType compute = at::kFloat;
  at::ScalarType store = at::kFloat;
  std::int64_t steps = 0;  ///< E * M, for a rate schedule
};

/// What a block's losses were over the steps since the last summary.
struct LossSummary {
  double loss = 0.0;  ///< mean over the steps whose loss was finite
  double mse = 0.0;
  double nlc = 0.0;
  std::int64_t steps = 0;   ///< finite ones
  std::int64_t masked = 0;  ///< steps left out because the loss was not finite
  bool stopped = false;     ///< 10 masked in a row: best parameters restored, learning ended
};

/// Learn the parameters of one block from its inputs and targets, one micro-batch at a time.
///   L = mean over the micro-batch of  mse_p MSE(P,O) + nlc_p NLC(P,O) + mse_r MSE(R,O) + nlc_r
///   NLC(R,O) O the quantized block's output, P the full-precision chain's, R the original block on
///   O's input
/// Source: LRQuant section 5; docs/methods.md, "Loss".
/// Differs: every sample has its own logarithm (the published code takes one over a batch; equal at
/// B = 1), and the micro-batch gradient is the sum of the per-sample gradients of the learnables in
/// a fixed binary tree, divided by B, so that replicas can share the work without changing a bit.
/// Nothing in step() synchronises with the host; end_epoch() does, once.
class BlockTrainer {
 public:
  /// weights: of the block, float32, by name within the block.  learnables: start values or those
  /// of a snapshot; copied.
  BlockTrainer(const models::Family& family, models::NamedTensors weights,
               const models::NamedTensors& learnables, TrainSettings settings);

  /// One step.  inputs, targets: B tensors [1, T, C] each, contiguous, of the store dtype.
  /// Returns the B outputs in the store dtype, detached and newly allocated: those before the step
  /// (emit = pre) or computed again after it (post); none if `emit_outputs` is kNo.
  enum class Emit { kYes, kNo };
  [[nodiscard]] std::vector<at::Tensor> step(std::span<const at::Tensor> inputs,
                                             std::span<const at::Tensor> targets,
                                             Emit emit_outputs);

  /// Read the loss sums and start new ones; keep the best epoch; after 10 masked steps in a row
  /// restore it and stop learning.  Throws NumericError if the recipe says nonfinite = "stop".
  LossSummary end_epoch();

  /// All learnables, detached, by name.
  [[nodiscard]] models::NamedTensors learnables() const;

  /// Everything that the next step reads, by name, and back: the content of a snapshot.
  [[nodiscard]] models::NamedTensors state() const;
  void restore(const models::NamedTensors& state);

 private:
  struct SampleLoss {
    at::Tensor values;  // [3] float64: loss, mse, nlc
    at::Tensor gradient;
  };
  [[nodiscard]] models::EffectiveBlock fold_now();
  [[nodiscard]] at::Tensor forward(const models::EffectiveBlock& block, const at::Tensor& input);
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> losses(const at::Tensor& output,
                                                         const at::Tensor& target,
                                                         const at::Tensor& input);
  SampleLoss learn_samples(const models::EffectiveBlock& block, std::span<const at::Tensor> inputs,
                           std::span<const at::Tensor> targets, std::span<at::Tensor> outputs,
                           bool last);
  void apply(const SampleLoss& sum, std::int64_t samples);
  [[nodiscard]] double rate_factor() const;

  const models::Family& family_;  // Owns: borrowed from the run's ModelSource
  models::NamedTensors weights_;
  TrainSettings settings_;
  models::BlockMethod method_;
  models::SiteFunction sites_;
  std::optional<models::EffectiveBlock> original_;  // only for the homologous terms

  models::NamedTensors learnables_;  // leaves are views of flat_; fixed ones are not
  std::vector<at::Tensor> leaves_;
  at::Tensor flat_;
  std::optional<AdamW> optimizer_;

  at::Tensor sums_;      // [4] float64: loss, mse, nlc, finite steps since the last summary
  at::Tensor counters_;  // [3] int64: masked, masked in a row, longest row since the last summary
  at::Tensor best_;      // flat_ of the epoch with the lowest mean loss
  double best_loss_;
  bool stopped_ = false;
  std::int64_t steps_done_ = 0;
};

}  // namespace lrq::pipeline

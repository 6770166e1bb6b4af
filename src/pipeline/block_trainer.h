#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"
#include "src/pipeline/adamw.h"
#include "src/pipeline/block_objective.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// How a block learns: the recipe, the dtypes, and how many steps there will be.
struct TrainSettings {
  recipe::Recipe recipe;
  at::ScalarType compute = at::kFloat;
  at::ScalarType store = at::kFloat;
  std::int64_t steps = 0;  ///< E * M, for a rate schedule
  Replicas replicas = {};
};

/// What a block's losses were over the steps since the last summary.
struct LossSummary {
  double loss = 0.0;  ///< mean over the steps whose loss was finite
  double mse = 0.0;
  double nlc = 0.0;
  std::int64_t steps = 0;   ///< finite ones
  std::int64_t masked = 0;  ///< steps left out: loss or gradient was not finite
  bool stopped = false;     ///< 10 masked in a row: best parameters restored, learning ended
};

/// Learn the parameters of one block from its inputs and targets, one micro-batch at a time.
///   L = mean over the micro-batch of the samples' objectives (block_objective.h)
/// Source: LRQuant section 7; docs/methods.md, "Loss".
/// Differs: every sample has its own logarithm (the published code takes one over a batch; equal at
/// B = 1), and the micro-batch gradient is the sum of the per-sample gradients of the learnables in
/// a fixed binary tree, divided by B, so that replicas can share the work without changing a bit.
/// Nothing in step() synchronises with the host; end_epoch() does, once.
class BlockTrainer {
 public:
  /// weights: of the block, float32, by name within the block, on the device that it learns on.
  /// learnables: start values or those of a snapshot, wherever they are; copied.
  BlockTrainer(const models::Family& family, models::NamedTensors weights,
               const models::NamedTensors& learnables, TrainSettings settings);

  /// One step.  inputs, targets: B / R tensors [1, T, C] each, contiguous, of the store
  /// dtype, on the weights' device.  Returns as many outputs in the store dtype, detached and newly
  /// allocated: those before the step (emit = pre) or computed again after it (post); none if
  /// `emit_outputs` is kNo.
  enum class Emit { kYes, kNo };
  [[nodiscard]] std::vector<at::Tensor> step(std::span<const at::Tensor> inputs,
                                             std::span<const at::Tensor> targets,
                                             Emit emit_outputs);

  /// Read the loss sums and start new ones; keep the best epoch; after 10 masked steps in a row
  /// restore it and stop learning.  block: for messages.
  /// Throws NumericError if the recipe says nonfinite = "stop".
  LossSummary end_epoch(BlockIndex block = {});

  /// Let go of the block's weights and of what was made of them, until hold_weights() gives the
  /// same ones again: between steps.
  void drop_weights();
  void hold_weights(models::NamedTensors weights);

  /// All learnables, detached, by name.
  [[nodiscard]] models::NamedTensors learnables() const;
  /// The learnables at the end of each epoch so far, kept where the recipe says train.keep_best.
  [[nodiscard]] std::vector<models::NamedTensors> learnables_by_epoch() const;

  /// Everything that the next step reads, by name, and back from host memory: the content of a
  /// snapshot.
  [[nodiscard]] models::NamedTensors state() const;
  void restore(const models::NamedTensors& state);

 private:
  struct SampleLoss {
    at::Tensor values;  // [3] float64: loss, mse, nlc
    at::Tensor gradient;
  };
  [[nodiscard]] models::EffectiveBlock fold_now();
  [[nodiscard]] at::Tensor forward(const models::EffectiveBlock& block, const at::Tensor& input);
  /// The samples of a step and what comes of them; parts of it go down the tree.
  struct Batch {
    std::span<const at::Tensor> inputs;
    std::span<const at::Tensor> targets;
    std::span<at::Tensor> outputs;
    std::span<BlockObjective::Terms> terms;
    [[nodiscard]] Batch part(std::size_t first, std::size_t count) const;
  };
  void measure(const models::EffectiveBlock& block, const Batch& sample);
  SampleLoss learn_samples(const models::EffectiveBlock& block, const Batch& batch,
                           const at::Tensor& averages, bool last);
  [[nodiscard]] double rate(models::RateGroup group) const;
  void apply(const SampleLoss& sum, const at::Tensor& averages, std::int64_t samples);
  [[nodiscard]] double rate_factor() const;
  [[nodiscard]] models::NamedTensors named(const at::Tensor& flat) const;

  const models::Family& family_;  // Owns: borrowed from the run's ModelSource
  models::NamedTensors weights_;
  TrainSettings settings_;
  models::BlockMethod method_;
  BlockObjective objective_;

  models::NamedTensors fixed_;       // weights as far as nothing learns; see models::fold
  models::NamedTensors learnables_;  // leaves are views of flat_; fixed ones are not
  std::vector<at::Tensor> leaves_;
  at::Tensor flat_;
  std::optional<AdamW> optimizer_;

  at::Tensor sums_;      // [4] float64: loss, mse, nlc, finite steps since the last summary
  at::Tensor counters_;  // [3] int64: masked, masked in a row, longest row since the last summary
  at::Tensor best_;      // flat_ of the epoch with the lowest mean loss
  at::Tensor epochs_;    // [epochs done, flat_], with train.keep_best
  double best_loss_;
  bool stopped_ = false;
  std::int64_t steps_done_ = 0;
};

}  // namespace lrq::pipeline

#pragma once

#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/block_state_store.h"
#include "src/models/quant_block.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::eval {

/// The recipe by which the last block adapts to a text: loss MSE + NLC against tta.target, rates
/// and epochs of tta.*, one sample a step.  What the recipe learns is learned, from scales 1,
/// shifts 0 and wide clipping (tta.init = "calibrated": from the run's own values); where it learns
/// nothing, scales, shifts and clip factors are.  tta.act_quant = false: no activation is
/// quantized.
[[nodiscard]] recipe::Recipe adaptation_recipe(const recipe::Recipe& recipe);

/// The last block of a run, learned once more on unlabelled samples of the text that it is tested
/// on. Source: LRQuant, test-time adaptation, section 8.3; docs/methods.md, "Test-time adaptation".
/// Differs: the published code adapts on embedding outputs with activations left unquantized.
class AdaptedBlock {
 public:
  /// inputs [1, T, C] each, of the store dtype: what reaches the last block (tta.input decides).
  /// targets: P for each; none: the original block's outputs on the inputs.
  /// states: the run's, for tta.init = "calibrated".
  /// Throws NumericError as BlockTrainer does.
  AdaptedBlock(const pipeline::ModelSource& model, const recipe::Recipe& recipe,
               const io::BlockStateStore& states, at::ScalarType compute, at::ScalarType store,
               std::span<const at::Tensor> inputs, std::span<const at::Tensor> targets);

  /// The adapted block's output for x [1, T, C], rounded to the store dtype.
  [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;

  /// Mean loss of each epoch.
  [[nodiscard]] const std::vector<double>& losses() const { return losses_; }

 private:
  const models::Family& family_;  // Owns: borrowed from the ModelSource
  models::EffectiveBlock block_;
  models::SiteFunction sites_;
  at::ScalarType store_;
  std::vector<double> losses_;
};

}  // namespace lrq::eval

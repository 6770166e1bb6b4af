#pragma once

#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "io/block_state_store.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::eval {

/// What to evaluate: the original model, or the model of a run.
struct Subject {
  const pipeline::ModelSource& model;
  const recipe::Recipe* recipe = nullptr;       ///< null: the original blocks
  const io::BlockStateStore* states = nullptr;  ///< with recipe: every block's file
  at::ScalarType compute = at::kFloat;
  at::ScalarType store = at::kFloat;
};

/// A model spread over all ranks for evaluation: its blocks in stages of equal cost (the head
/// counts as many blocks as it costs), the embedding on the first rank, the head on the last.
class Evaluator {
 public:
  Evaluator(dist::Transport& transport, const Subject& subject);

  /// Score windows of tokens, each alone.  windows [n, T] int32: on rank 0; empty elsewhere.
  /// Returns on every rank the mean negative log-likelihood of each window's T-1 shifted tokens,
  /// float32 logits.  Collective.  Source: docs/methods.md, "Perplexity".
  [[nodiscard]] std::vector<double> window_losses(const at::Tensor& windows);

 private:
  [[nodiscard]] double window_loss(const at::Tensor& hidden, const at::Tensor& ids) const;

  dist::Transport& transport_;  // Owns: borrowed from the command
  const pipeline::ModelSource& model_;
  at::ScalarType store_;
  int stages_;
  std::optional<pipeline::FrozenStage> stage_;
  models::NamedTensors embedding_;
  models::NamedTensors head_;
};

/// exp of the mean of the windows' losses.
[[nodiscard]] double perplexity(const std::vector<double>& window_losses);

/// Cut a stream of token ids [n] into windows [n / length, length]; the rest is dropped.
/// limit: at most so many windows (0: all).  Throws DataError if there is not one.
[[nodiscard]] at::Tensor cut_into_windows(const at::Tensor& stream, std::int64_t length,
                                          std::int64_t limit);

}  // namespace lrq::eval

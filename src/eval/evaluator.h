#pragma once

#include <cstdint>
#include <functional>
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

/// One forward pass, and the predictions that are read from it.
struct Passage {
  /// T ids, at least one: what the model sees.
  std::vector<std::int32_t> input;
  /// A >= 1 alternatives of n ids each, 1 <= n <= T: what the last n positions are to predict.
  std::vector<std::vector<std::int32_t>> targets;
};

/// How the model likes one alternative of a passage.
struct Score {
  double log_likelihood = 0.0;  ///< sum over its ids of the log-softmax of float32 logits
  bool greedy = false;          ///< no other id has a larger logit anywhere
  std::int64_t tokens = 0;      ///< n
  bool operator==(const Score&) const = default;
};

/// A model spread over all ranks for evaluation: its blocks in stages of equal cost (the head
/// counts as many blocks as it costs), the embedding on the first rank, the head on the last.
/// Passages go through one at a time, so scores have the same bits on any number of ranks.
class Evaluator {
 public:
  Evaluator(dist::Transport& transport, const Subject& subject);

  /// Score passages of any lengths.  passages: on rank 0; empty elsewhere.  The head sees only
  /// the positions that predict a target.  Returns on every rank the scores of all alternatives,
  /// passage after passage.  Collective.  Source: docs/methods.md, "Zero-shot".
  [[nodiscard]] std::vector<Score> score(const std::vector<Passage>& passages);

  /// Score windows of tokens, each alone.  windows [n, T] int32: on rank 0; empty elsewhere.
  /// Returns on every rank the mean negative log-likelihood of each window's T-1 shifted tokens,
  /// float32 logits.  Collective.  Source: docs/methods.md, "Perplexity".
  [[nodiscard]] std::vector<double> window_losses(const at::Tensor& windows);

 private:
  /// Run passages of these lengths through all stages; the last one hands each output [1, T, C] to
  /// `at_end`.
  void forward(const std::vector<Passage>& passages, std::vector<std::int64_t> lengths,
               const std::function<void(const at::Tensor& hidden, std::int64_t passage)>& at_end);
  /// hidden [1, T, C]: the last block's output.  targets [A, n] int64.  Returns [A, 2] float64
  /// on the CPU: log-likelihood, greedy.
  [[nodiscard]] at::Tensor judge(const at::Tensor& hidden, const at::Tensor& targets) const;

  dist::Transport& transport_;  // Owns: borrowed from the command
  const pipeline::ModelSource& model_;
  at::ScalarType store_;
  int stages_;
  std::optional<pipeline::FrozenStage> stage_;
  models::NamedTensors embedding_;
  models::NamedTensors head_;
};

}  // namespace lrq::eval

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "io/block_state_store.h"
#include "src/eval/adaptation.h"
#include "src/eval/judging.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::eval {

/// What to evaluate: the original model, or the model of a run.
struct Subject {
  const pipeline::ModelSource& model;
  const recipe::Recipe* recipe = nullptr;       ///< null: the original blocks
  const io::BlockStateStore* states = nullptr;  ///< with recipe: every block's file; null: none
  at::ScalarType compute = at::kFloat;
  at::ScalarType store = at::kFloat;
  int resident_blocks = 0;  ///< of a rank, in memory at the same time; 0: all
};

/// A model spread over all ranks for evaluation: its blocks in stages of equal cost (the head
/// counts as many blocks as it costs), the embedding on the first rank, the head on the last.
/// Passages go through one at a time, so scores have the same bits on any number of ranks.  Where
/// not all blocks of a rank are resident, each takes a turn of passages before the next is read.
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

  /// Test-time adaptation (adaptation.h) by the recipe's table tta.  The subject must be a run.

  /// The window losses of the run as it is, and with its last block adapted to these windows: to
  /// all of them, or to each alone before it is scored (tta.scope).  The rank of the last stage
  /// keeps what reaches the last block: windows x T x C of the store dtype.  Collective.
  struct AdaptedLosses {
    std::vector<double> plain;
    std::vector<double> adapted;
  };
  [[nodiscard]] AdaptedLosses adapted_window_losses(const at::Tensor& windows);
  /// The scores of the run as it is, and with its last block adapted to other, unlabelled windows
  /// [n, T] int32 (rank 0): one pass through the blocks below it makes both.  Collective.
  struct AdaptedScores {
    std::vector<Score> plain;
    std::vector<Score> adapted;
  };
  [[nodiscard]] AdaptedScores adapted_scores(const std::vector<Passage>& passages,
                                             const at::Tensor& windows);

 private:
  using AtLastBlock = std::function<void(const at::Tensor& input, std::int64_t passage)>;
  /// Run passages of these lengths through all stages; the last one hands each input [1, T, C] of
  /// the last block to `at_last_block`.
  void forward(const std::vector<Passage>& passages, std::vector<std::int64_t> lengths,
               pipeline::FrozenStage* stage, const AtLastBlock& at_last_block);
  [[nodiscard]] bool has_last_block() const;
  [[nodiscard]] at::Tensor last_block(const at::Tensor& input) const;
  /// What adaptation needs of the passages, on the rank of the last block.  seen: what reaches that
  /// block, passage after passage.
  struct Samples {
    std::vector<at::Tensor> inputs;
    std::vector<at::Tensor> targets;  ///< empty: the original block's outputs on the inputs
  };
  [[nodiscard]] Samples samples_for_adaptation(const std::vector<Passage>& passages,
                                               const std::vector<std::int64_t>& lengths,
                                               const std::vector<at::Tensor>& seen);
  [[nodiscard]] std::vector<at::Tensor> embeddings(const std::vector<Passage>& passages,
                                                   const std::vector<std::int64_t>& lengths);
  /// Null on the ranks without the last block.
  [[nodiscard]] std::unique_ptr<AdaptedBlock> adapted_to(std::span<const at::Tensor> inputs,
                                                         std::span<const at::Tensor> targets) const;
  [[nodiscard]] std::unique_ptr<AdaptedBlock> adapted_to(const at::Tensor& windows);
  /// hidden [1, T, C]: the last block's output.  targets [A, n] int64.  Returns [A, 2] float64
  /// on the CPU: log-likelihood, greedy.
  [[nodiscard]] at::Tensor judge(const at::Tensor& hidden, const at::Tensor& targets) const;

  dist::Transport& transport_;  // Owns: borrowed from the command
  Subject subject_;
  const pipeline::ModelSource& model_;
  int stages_;
  pipeline::BlockRange range_;
  std::optional<pipeline::FrozenStage> stage_;
  models::NamedTensors embedding_;
  models::NamedTensors head_;
};

}  // namespace lrq::eval

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"

namespace lrq::eval {

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

/// Scores of passages in the making: what was to be predicted, and what each rank knows of it.
class Judging {
 public:
  /// passages: on rank 0; empty elsewhere.  last: the rank that judges.  Collective.
  Judging(dist::Transport& transport, const std::vector<Passage>& passages, Rank last);

  /// T of each passage, on every rank.
  [[nodiscard]] const std::vector<std::int64_t>& lengths() const { return lengths_; }
  /// [A, n] int64: what the passage is to predict; on the rank that judges.
  [[nodiscard]] at::Tensor targets(std::int64_t passage) const;
  /// Keep a passage's [A, 2] float64: log-likelihood, greedy; on the rank that judges.
  void record(std::int64_t passage, const at::Tensor& found);
  /// The scores of all alternatives, passage after passage, on every rank.  Collective.
  [[nodiscard]] std::vector<Score> scores();

 private:
  struct Place {
    std::int64_t target = 0;        ///< of the passage's first target in targets_
    std::int64_t score = 0;         ///< of its first alternative in found_
    std::int64_t targets = 0;       ///< n
    std::int64_t alternatives = 0;  ///< A
  };
  dist::Transport& transport_;  // Owns: borrowed from the Evaluator
  Rank last_;
  std::vector<std::int64_t> lengths_;
  std::vector<Place> places_;
  at::Tensor targets_;
  at::Tensor found_;
};

}  // namespace lrq::eval

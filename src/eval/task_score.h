#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/eval/evaluator.h"
#include "src/eval/task_file.h"

namespace lrq::eval {

/// A figure and its standard error; of a single document the error is not a number.
struct Figure {
  double value = 0.0;
  double error = 0.0;
};

/// What a task says about a model.  Source: docs/methods.md, "Zero-shot".
struct TaskResult {
  std::size_t documents = 0;
  Figure acc;                        ///< right choices; or continuations that greedy decoding gives
  std::optional<Figure> acc_norm;    ///< multiple choice: scores divided by characters
  std::optional<Figure> perplexity;  ///< continuations: exp(-mean log-likelihood)
  std::string headline = "acc";      ///< "acc" or "acc_norm": which one tables show
  [[nodiscard]] const Figure& head() const { return headline == "acc_norm" ? *acc_norm : acc; }
};

/// Judge a task from the scores of its choices, in order.
///   acc:      argmax of the log-likelihoods, the first of equal ones, is the gold choice
///   acc_norm: the same with log-likelihood / characters of the continuation (see characters())
///   error:    sqrt(p (1 - p) / (n - 1));  of a perplexity: it times the standard error of the mean
///             log-likelihood
/// Source: lm-evaluation-harness.  Differs: the harness draws the perplexity's error by bootstrap.
[[nodiscard]] TaskResult judge_task(const Task& task, const std::vector<Score>& scores);

/// Unicode code points of a continuation without its leading space, as Python's len() counts them.
[[nodiscard]] std::size_t characters(std::string_view continuation);

/// The metric that published tables show for a task of this name: "acc_norm" for piqa, arc_easy,
/// arc_challenge, hellaswag and openbookqa, else "acc".
[[nodiscard]] std::string headline_metric(std::string_view task);

}  // namespace lrq::eval

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "src/eval/evaluator.h"
#include "src/eval/task_file.h"

namespace lrq::eval {

/// A task of tests/data/zero-shot.
[[nodiscard]] Task shipped_task(const std::string& name);

/// Score a task with a model on one rank and one thread, tokenized together.
[[nodiscard]] std::vector<Score> scores_of(const Task& task, const std::filesystem::path& model);

/// Expect the log-likelihoods (to 1e-3), greedy matches and token counts of a file of
/// tests/data/reference: those of Hugging Face transformers 5.23.0 in float32 on a CPU.
/// documents: compare so many of each task.
void expect_scores_of_reference(const std::filesystem::path& model, const std::string& reference,
                                std::size_t documents);

}  // namespace lrq::eval

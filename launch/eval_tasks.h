#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "io/file_system.h"
#include "src/eval/requests.h"
#include "src/eval/task_file.h"
#include "src/pipeline/model_source.h"

namespace lrq::cli {

/// The zero-shot part of `eval`.
struct TaskOptions {
  std::vector<std::string> names;  ///< --tasks: files, or names and patterns within `folder`
  std::string folder;              ///< --task-dir
  std::string tokenize = "together";
  std::string log_likelihoods;  ///< --log-likelihoods: file to write, or empty
  int fewshot = 0;
  std::int64_t limit = 0;  ///< documents of each task; 0: all
};

/// The files that --tasks names, in its order.  A name with a '/' or the ending .jsonl is a path;
/// any other is <folder>/<name>.jsonl, or a pattern (* ? []) for such names.
/// Throws UsageError: few-shot examples asked for, a name without a folder or not in it, two tasks
/// of one name.
[[nodiscard]] std::vector<std::string> task_files(const TaskOptions& options,
                                                  const io::FileSystem& files);

/// The tasks of a run of `eval`, ready to be scored.
struct ZeroShot {
  std::vector<eval::Task> tasks;
  std::vector<std::vector<eval::Request>> requests;  ///< of each task
  std::string bos;
};

/// Read and tokenize the tasks.  paths: task_files().  Throws DataError.
[[nodiscard]] ZeroShot open_tasks(const TaskOptions& options, const std::vector<std::string>& paths,
                                  const pipeline::ModelSource& model, const io::FileSystem& files);

/// Score `count` tasks over all ranks, and print a line for each on rank 0.  zero_shot: on rank 0;
/// empty elsewhere.  Writes the log-likelihoods, if asked for, after each task.
/// adapt_tokens > 0: scores of the last block adapted to a task's contexts, packed to so many
/// tokens, come beside the plain ones, in a table behind theirs.
/// Returns {"tasks", "tasks_mean", "tasks_mean_stderr", the same with "_adapted", "settings"} on
/// rank 0.  Collective.
[[nodiscard]] nlohmann::ordered_json run_tasks(eval::Evaluator& evaluator,
                                               const ZeroShot& zero_shot, std::size_t count,
                                               const TaskOptions& options, io::FileSystem& files,
                                               std::int64_t adapt_tokens);

}  // namespace lrq::cli

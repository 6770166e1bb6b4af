#include "launch/eval_tasks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fnmatch.h>
#include <limits>

#include <nlohmann/json.hpp>

#include "io/tokenizer.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/eval/task_score.h"

namespace lrq::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kEnding = ".jsonl";
constexpr std::string_view kTogether = "together";

/// Names of the tasks in a folder, sorted.
std::vector<std::string> tasks_in(const std::string& folder, const io::FileSystem& files) {
  std::vector<std::string> names;
  for (const std::string& file : files.list(folder)) {
    if (file.ends_with(kEnding)) names.push_back(fs::path(file).stem().string());
  }
  return names;
}

/// The files that one name of --tasks stands for.
std::vector<std::string> resolve(const std::string& name, const std::string& folder,
                                 const io::FileSystem& files) {
  if (name.find('/') != std::string::npos || name.ends_with(kEnding)) return {name};
  if (folder.empty()) {
    throw UsageError({.what = concat("'", name, "' is a name, and there is no folder of tasks"),
                      .where = "option --tasks",
                      .fix = "add --task-dir DIR, or give the path of a .jsonl file"});
  }
  const std::vector<std::string> there = tasks_in(folder, files);
  std::vector<std::string> found;
  for (const std::string& task : there) {
    if (fnmatch(name.c_str(), task.c_str(), 0) != 0) continue;
    found.push_back((fs::path(folder) / (task + kEnding)).string());
  }
  if (!found.empty()) return found;
  const std::string nearest = nearest_word(name, there);
  throw UsageError({.what = concat("there is no task '", name, "'",
                                   nearest.empty() ? "" : concat("; did you mean '", nearest, "'?"),
                                   files.exists(folder) ? "" : ": there is no such folder"),
                    .where = concat("option --tasks, folder ", folder),
                    .fix = there.empty()
                               ? std::string("name a folder of <name>.jsonl files with --task-dir")
                               : concat("use one of ", join(there, ", "))});
}

std::string text_of(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4f", value);
  return std::isnan(value) ? "-" : text.data();
}

/// The columns of the printed table; names as wide as the longest.
class Table {
 public:
  explicit Table(const std::vector<eval::Task>& tasks) {
    for (const eval::Task& task : tasks) width_ = std::max(width_, task.name.size());
    print({"task", "n", "acc", "+-", "acc_norm", "+-", "perplexity"}, "");
  }

  void print(const std::string& name, const eval::TaskResult& result) const {
    std::vector<std::string> cells = {name,
                                      concat(result.documents),
                                      text_of(result.acc.value),
                                      text_of(result.acc.error),
                                      "-",
                                      "-",
                                      "-"};
    if (result.acc_norm) cells[4] = text_of(result.acc_norm->value);
    if (result.acc_norm) cells[5] = text_of(result.acc_norm->error);
    if (result.perplexity) cells[6] = text_of(result.perplexity->value);
    print(cells, result.headline);
  }

 private:
  void print(const std::vector<std::string>& cells, std::string_view headline) const {
    std::printf("%-*s %7s %9s%s %8s %9s%s %8s %12s\n", static_cast<int>(width_), cells[0].c_str(),
                cells[1].c_str(), cells[2].c_str(), headline == "acc" ? "*" : " ", cells[3].c_str(),
                cells[4].c_str(), headline == "acc_norm" ? "*" : " ", cells[5].c_str(),
                cells[6].c_str());
    std::fflush(stdout);
  }

  std::size_t width_ = 4;
};

ordered_json as_json(const eval::TaskResult& result) {
  ordered_json json = {{"acc", result.acc.value}, {"acc_stderr", result.acc.error}};
  if (result.acc_norm) {
    json["acc_norm"] = result.acc_norm->value;
    json["acc_norm_stderr"] = result.acc_norm->error;
  }
  if (result.perplexity) {
    json["perplexity"] = result.perplexity->value;
    json["perplexity_stderr"] = result.perplexity->error;
  }
  json["n"] = result.documents;
  json["headline"] = result.headline;
  return json;
}

/// Print the mean of the tasks' headlines, and put it and all results under names that end like
/// that.
void add_results(ordered_json& into, const std::string& ending,
                 const std::vector<eval::Task>& tasks,
                 const std::vector<eval::TaskResult>& results) {
  const auto count = static_cast<double>(tasks.size());
  eval::Figure mean;  // errors of different tasks are independent
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    into["tasks" + ending][tasks[i].name] = as_json(results[i]);
    mean.value += results[i].head().value / count;
    mean.error = std::hypot(mean.error, results[i].head().error / count);
  }
  into["tasks_mean" + ending] = mean.value;
  into["tasks_mean_stderr" + ending] = mean.error;
  std::printf("mean of the figures marked *: %s +- %s\n", text_of(mean.value).c_str(),
              text_of(mean.error).c_str());
}

/// One line a choice.
std::string likelihood_lines(const eval::Task& task, const std::vector<eval::Request>& requests,
                             const std::vector<eval::Score>& scores) {
  std::string lines;
  std::size_t next = 0;
  for (const eval::Document& document : task.documents) {
    for (std::size_t pair = 0; pair < document.choices.size(); ++pair, ++next) {
      lines += ordered_json{{"task", task.name},
                            {"id", ordered_json::parse(document.id)},
                            {"pair", pair},
                            {"log_likelihood", scores[next].log_likelihood},
                            {"greedy", scores[next].greedy},
                            {"tokens", scores[next].tokens},
                            {"truncated", requests[next].truncated}}
                   .dump() +
               "\n";
    }
  }
  return lines;
}

}  // namespace

std::vector<std::string> task_files(const TaskOptions& options, const io::FileSystem& files) {
  if (options.fewshot != 0) {
    throw UsageError({.what = concat("few-shot examples asked for: ", options.fewshot, ", not 0"),
                      .where = "option --num-fewshot",
                      .fix = "leave it out; put the examples into the contexts of the task file"});
  }
  std::vector<std::string> paths;
  std::vector<std::string> names;
  for (const std::string& name : options.names) {
    for (std::string& path : resolve(name, options.folder, files)) {
      names.push_back(fs::path(path).stem().string());
      paths.push_back(std::move(path));
      if (std::count(names.begin(), names.end(), names.back()) == 1) continue;
      throw UsageError({.what = concat("two tasks are named '", names.back(), "'"),
                        .where = "option --tasks",
                        .fix = "results are told apart by file name: name each once"});
    }
  }
  return paths;
}

ZeroShot open_tasks(const TaskOptions& options, const std::vector<std::string>& paths,
                    const pipeline::ModelSource& model, const io::FileSystem& files) {
  const std::int64_t positions = model.config().max_position_embeddings;
  const std::int64_t longest = positions > 0 ? positions : std::numeric_limits<std::int32_t>::max();
  const auto tokenize =
      options.tokenize == kTogether ? eval::Tokenize::kTogether : eval::Tokenize::kSeparate;
  ZeroShot zero_shot;
  if (paths.empty()) return zero_shot;
  const auto tokenizer = io::open_tokenizer(model.folder());
  const bool bos = tokenize == eval::Tokenize::kTogether && tokenizer->bos().has_value();
  zero_shot.bos = bos ? concat("one BOS, ", *tokenizer->bos()) : std::string("no BOS");
  for (const std::string& path : paths) {
    zero_shot.tasks.push_back(
        eval::parse_task(files.read(path), fs::path(path).stem().string(), path, options.limit));
    zero_shot.requests.push_back(
        eval::make_requests(*tokenizer, zero_shot.tasks.back(), tokenize, longest));
  }
  return zero_shot;
}

ordered_json run_tasks(eval::Evaluator& evaluator, const ZeroShot& zero_shot, std::size_t count,
                       const TaskOptions& options, io::FileSystem& files,
                       std::int64_t adapt_tokens) {
  const auto score = [&](const std::vector<eval::Request>& requests) {
    const auto passages = eval::make_passages(requests);
    if (adapt_tokens == 0) {
      return eval::Evaluator::AdaptedScores{.plain = evaluator.score(passages), .adapted = {}};
    }
    return evaluator.adapted_scores(passages, eval::pack_contexts(requests, adapt_tokens));
  };
  if (zero_shot.tasks.empty()) {
    for (std::size_t i = 0; i < count; ++i) (void)score({});
    return {};
  }
  std::printf("zero-shot, context and continuation tokenized %s, %s\n",
              options.tokenize == kTogether ? "together" : "separately", zero_shot.bos.c_str());
  const Table table(zero_shot.tasks);
  ordered_json truncated = ordered_json::object();
  std::vector<eval::TaskResult> plain;
  std::vector<eval::TaskResult> adapted;
  std::string lines;
  for (std::size_t i = 0; i < count; ++i) {
    const eval::Task& task = zero_shot.tasks[i];
    const auto& requests = zero_shot.requests[i];
    const auto scores = score(requests);
    plain.push_back(eval::judge_task(task, scores.plain));
    table.print(task.name, plain.back());
    if (adapt_tokens > 0) adapted.push_back(eval::judge_task(task, scores.adapted));
    truncated[task.name] = std::count_if(requests.begin(), requests.end(),
                                         [](const auto& request) { return request.truncated; });
    lines += likelihood_lines(task, requests, scores.plain);
    if (!options.log_likelihoods.empty()) {
      io::write_atomically(files, options.log_likelihoods, lines);
    }
  }
  ordered_json result;
  add_results(result, "", zero_shot.tasks, plain);
  if (adapt_tokens > 0) {
    std::printf("with the last block adapted to each task's contexts:\n");
    for (std::size_t i = 0; i < count; ++i) table.print(zero_shot.tasks[i].name, adapted[i]);
    add_results(result, "_adapted", zero_shot.tasks, adapted);
  }
  result["settings"] = {
      {"tokenize", options.tokenize}, {"bos", zero_shot.bos}, {"truncated", truncated}};
  return result;
}

}  // namespace lrq::cli

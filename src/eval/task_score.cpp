#include "src/eval/task_score.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/base/check.h"

namespace lrq::eval {
namespace {

constexpr std::array<std::string_view, 5> kNormalised = {"piqa", "arc_easy", "arc_challenge",
                                                         "hellaswag", "openbookqa"};

/// The mean and its standard error: sample deviation / sqrt(n).
Figure mean_of(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0.0;
  for (const double value : values) sum += value;
  const double mean = sum / count;
  double squares = 0.0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {.value = mean, .error = std::sqrt(squares / (count - 1.0) / count)};
}

std::size_t first_maximum(const std::vector<double>& values) {
  return static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

std::size_t characters(std::string_view continuation) {
  if (continuation.starts_with(' ')) continuation.remove_prefix(1);
  // Every code point of UTF-8 has one byte that is not of the form 10xxxxxx.
  return static_cast<std::size_t>(
      std::count_if(continuation.begin(), continuation.end(),
                    [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }));
}

std::string headline_metric(std::string_view task) {
  const bool normalised =
      std::find(kNormalised.begin(), kNormalised.end(), task) != kNormalised.end();
  return normalised ? "acc_norm" : "acc";
}

TaskResult judge_task(const Task& task, const std::vector<Score>& scores) {
  std::vector<double> right;
  std::vector<double> right_normalised;
  std::vector<double> log_likelihoods;
  std::size_t next = 0;
  for (const Document& document : task.documents) {
    expect(next + document.choices.size() <= scores.size(), "a task has a score for every choice");
    std::vector<double> plain;
    std::vector<double> normalised;
    for (const Choice& choice : document.choices) {
      plain.push_back(scores[next++].log_likelihood);
      normalised.push_back(plain.back() / static_cast<double>(characters(choice.continuation)));
    }
    if (task.continues()) {
      right.push_back(scores[next - 1].greedy ? 1.0 : 0.0);
      log_likelihoods.push_back(plain.front());
    } else {
      right.push_back(first_maximum(plain) == document.gold ? 1.0 : 0.0);
      right_normalised.push_back(first_maximum(normalised) == document.gold ? 1.0 : 0.0);
    }
  }
  expect(next == scores.size(), "a task has a choice for every score");
  TaskResult result;
  result.documents = task.documents.size();
  result.acc = mean_of(right);
  if (task.continues()) {
    const Figure mean = mean_of(log_likelihoods);
    const double perplexity = std::exp(-mean.value);
    result.perplexity = Figure{.value = perplexity, .error = perplexity * mean.error};
  } else {
    result.acc_norm = mean_of(right_normalised);
    result.headline = headline_metric(task.name);
  }
  return result;
}

}  // namespace lrq::eval

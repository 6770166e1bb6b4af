#include "src/eval/task_score.h"

#include <cmath>

#include <gtest/gtest.h>

namespace lrq::eval {
namespace {

Document question(std::vector<std::string> continuations, std::size_t gold) {
  Document document{.id = "0", .choices = {}, .gold = gold};
  for (auto& text : continuations) document.choices.push_back({"Answer:", std::move(text)});
  return document;
}

std::vector<Score> scores(const std::vector<double>& log_likelihoods) {
  std::vector<Score> found;
  for (const double value : log_likelihoods) found.push_back({.log_likelihood = value});
  return found;
}

TEST(TaskScoreTest, AccTakesTheLargestScoreAndAccNormTheLargestPerCharacter) {
  // Document 1: -6 of 2 characters is -3 each, -8 of 4 is -2 each.  Document 2 agrees with itself.
  const Task task{"piqa", {question({" ab", " abcd"}, 1), question({" ab", " ab"}, 0)}};
  const TaskResult result = judge_task(task, scores({-6.0, -8.0, -1.0, -2.0}));
  EXPECT_EQ(result.documents, 2U);
  EXPECT_DOUBLE_EQ(result.acc.value, 0.5);
  EXPECT_DOUBLE_EQ(result.acc_norm->value, 1.0);
  EXPECT_DOUBLE_EQ(result.acc.error, 0.5) << "sqrt(0.5 * 0.5 / (2 - 1))";
  EXPECT_DOUBLE_EQ(result.acc_norm->error, 0.0);
  EXPECT_EQ(result.headline, "acc_norm");
  EXPECT_DOUBLE_EQ(result.head().value, 1.0);
  EXPECT_FALSE(result.perplexity.has_value());
}

TEST(TaskScoreTest, TheFirstOfEqualScoresWins) {
  const Task task{"boolq", {question({" no", " so"}, 0), question({" no", " so"}, 1)}};
  const TaskResult result = judge_task(task, scores({-1.0, -1.0, -1.0, -1.0}));
  EXPECT_DOUBLE_EQ(result.acc.value, 0.5);
  EXPECT_DOUBLE_EQ(result.acc_norm->value, 0.5);
  EXPECT_EQ(result.headline, "acc");
}

TEST(TaskScoreTest, CharactersAreCodePointsWithoutTheLeadingSpace) {
  EXPECT_EQ(characters(" yes"), 3U);
  EXPECT_EQ(characters("yes"), 3U);
  EXPECT_EQ(characters("  yes"), 4U) << "one space leads";
  EXPECT_EQ(characters(" na\u00efve \u6f22\u5b57"), 8U);
  EXPECT_EQ(characters(" \U0001f600"), 1U);
}

TEST(TaskScoreTest, AContinuationIsRightWhenGreedyDecodingGivesIt) {
  const Task task{"lambada_openai",
                  {question({" a"}, 0), question({" b"}, 0), question({" c"}, 0)}};
  auto found = scores({-1.0, -2.0, -3.0});
  found[1].greedy = true;
  const TaskResult result = judge_task(task, found);
  EXPECT_DOUBLE_EQ(result.acc.value, 1.0 / 3.0);
  EXPECT_NEAR(result.acc.error, std::sqrt(1.0 / 3.0 * (2.0 / 3.0) / 2.0), 1e-15);
  EXPECT_FALSE(result.acc_norm.has_value());
  EXPECT_DOUBLE_EQ(result.perplexity->value, std::exp(2.0));
  // Sample deviation of 1, 2, 3 is 1; of their mean 1 / sqrt(3).
  EXPECT_DOUBLE_EQ(result.perplexity->error, std::exp(2.0) / std::sqrt(3.0));
  EXPECT_EQ(result.headline, "acc");
}

TEST(TaskScoreTest, OneDocumentHasNoStandardError) {
  const Task task{"boolq", {question({" no", " yes"}, 0)}};
  EXPECT_TRUE(std::isnan(judge_task(task, scores({-1.0, -2.0})).acc.error));
}

TEST(TaskScoreTest, HeadlinesAreThoseOfPublishedTables) {
  for (const char* task : {"piqa", "arc_easy", "arc_challenge", "hellaswag", "openbookqa"}) {
    EXPECT_EQ(headline_metric(task), "acc_norm") << task;
  }
  for (const char* task : {"boolq", "winogrande", "lambada_openai", "mmlu", "my_own"}) {
    EXPECT_EQ(headline_metric(task), "acc") << task;
  }
}

}  // namespace
}  // namespace lrq::eval

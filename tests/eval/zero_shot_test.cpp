#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "src/eval/requests.h"
#include "tests/dist/threads.h"
#include "tests/eval/zero_shot_reference.h"

namespace lrq::eval {
namespace {

constexpr const char* kModel = LRQ_TEST_DATA "/stories260k";

// All rows of the reference, and whole tasks: zero_shot_slow_test.cpp.
TEST(ZeroShotTest, LogLikelihoodsAreThoseOfHuggingFace) {
  expect_scores_of_reference(kModel, "zero-shot-stories260k.json", 1);
}

TEST(ZeroShotTest, ScoresHaveTheSameBitsOnAnyNumberOfRanks) {
  Task task = shipped_task("hellaswag");
  task.documents.resize(2);
  at::set_num_threads(1);
  const auto scores_on = [&](int ranks) {
    std::vector<Score> scores;
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& transport) {
      const pipeline::ModelSource model(kModel);
      Evaluator evaluator(transport, {.model = model});
      std::vector<Passage> passages;
      if (transport.rank().value == 0) {
        const auto tokenizer = io::open_tokenizer(kModel);
        passages = make_passages(make_requests(*tokenizer, task, Tokenize::kTogether, 512));
      }
      const auto found = evaluator.score(passages);
      if (transport.rank().value == transport.size() - 1) scores = found;
    });
    return scores;
  };
  const auto one = scores_on(1);
  EXPECT_EQ(one.size(), 8U);
  EXPECT_EQ(scores_on(2), one);
  EXPECT_EQ(scores_on(5), one);
  EXPECT_EQ(scores_on(6), one) << "five blocks: the sixth rank waits";
}

TEST(ZeroShotTest, AlternativesOfAPassageScoreAsIfEachWereAlone) {
  const Passage both{.input = {1, 40, 50, 60}, .targets = {{50, 60, 7}, {50, 60, 300}}};
  const auto score = [](const std::vector<Passage>& passages) {
    std::vector<Score> scores;
    dist::run_as_threads(1, std::chrono::seconds(60), [&](dist::Transport& transport) {
      const pipeline::ModelSource model(kModel);
      scores = Evaluator(transport, {.model = model}).score(passages);
    });
    return scores;
  };
  EXPECT_EQ(score({both}), score({{.input = both.input, .targets = {both.targets[0]}},
                                  {.input = both.input, .targets = {both.targets[1]}}}));
}

TEST(ZeroShotTest, ScoresDoNotDependOnTheBlocksThatAreResident) {
  // The first passage is as long as makes a turn one of 16 passages; the others belong to two.
  std::vector<Passage> passages(20, {.input = {1, 40, 50, 60}, .targets = {{50, 60, 7}}});
  for (std::size_t i = 0; i < passages.size(); ++i) {
    passages[i].input.back() = static_cast<std::int32_t>(100 + i);
  }
  passages[0].input.resize(2048, 50);
  const auto score = [&](int ranks, int resident) {
    std::vector<Score> scores;
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& transport) {
      const pipeline::ModelSource model(kModel);
      Evaluator evaluator(transport, {.model = model, .resident_blocks = resident});
      const bool first = transport.rank().value == 0;
      const auto found = evaluator.score(first ? passages : std::vector<Passage>());
      if (first) scores = found;
    });
    return scores;
  };
  const auto all = score(1, 0);
  EXPECT_EQ(all.size(), 20U);
  EXPECT_EQ(score(1, 1), all);
  EXPECT_EQ(score(2, 2), all);
}

}  // namespace
}  // namespace lrq::eval

#include "src/eval/perplexity.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/dist/threads.h"

namespace lrq::eval {
namespace {

TEST(PerplexityTest, IsTheExponentialOfTheMeanLoss) {
  EXPECT_NEAR(perplexity({1.5, 2.0, 2.5}), 7.3890560989, 1e-9);
}

TEST(PerplexityTest, WindowsDoNotOverlapAndTheRestIsDropped) {
  const at::Tensor windows = cut_into_windows(at::arange(11, at::kInt), 4, 0);
  EXPECT_TRUE(at::equal(windows, at::arange(8, at::kInt).view({2, 4})));
  EXPECT_EQ(cut_into_windows(at::arange(11, at::kInt), 4, 1).size(0), 1);
}

TEST(PerplexityTest, ATextShorterThanOneWindowIsRefused) {
  EXPECT_THROW((void)cut_into_windows(at::arange(3, at::kInt), 4, 0), DataError);
}

TEST(EvaluatorTest, GivesTheSameLossesOnAnyNumberOfRanks) {
  const at::Tensor ids = (at::arange(2 * 300) * 37 % 509 + 3).to(at::kInt).view({2, 300});
  const auto losses_on = [&](int ranks) {
    std::vector<double> losses;
    dist::run_as_threads(ranks, std::chrono::seconds(60), [&](dist::Transport& transport) {
      const pipeline::ModelSource model(LRQ_TEST_DATA "/stories260k");
      Evaluator evaluator(transport, {.model = model});
      const bool first = transport.rank().value == 0;
      const auto mine = evaluator.window_losses(first ? ids : at::Tensor());
      if (first) losses = mine;
    });
    return losses;
  };
  const auto one = losses_on(1);
  EXPECT_EQ(one.size(), 2U);
  EXPECT_EQ(losses_on(2), one);
  EXPECT_EQ(losses_on(5), one);
  EXPECT_GT(one[0], 1.0);
}

}  // namespace
}  // namespace lrq::eval

#include <cmath>

#include <gtest/gtest.h>

#include "src/eval/task_score.h"
#include "tests/eval/smollm2.h"
#include "tests/eval/zero_shot_reference.h"

namespace lrq::eval {
namespace {

constexpr const char* kModel = LRQ_TEST_DATA "/stories260k";

TEST(ZeroShotSlowTest, AllLogLikelihoodsOfTheReferenceAreThoseOfHuggingFace) {
  expect_scores_of_reference(kModel, "zero-shot-stories260k.json", 200);
}

// acc and acc_norm over all 200 rows, from the same reference file.
TEST(ZeroShotSlowTest, AccuraciesOfWholeTasksAreThoseOfHuggingFace) {
  struct Expected {
    const char* task;
    double acc;
    double acc_norm;
  };
  for (const Expected& expected :
       {Expected{"openbookqa", 0.12, 0.15}, {"piqa", 0.49, 0.51}, {"winogrande", 0.51, 0.51}}) {
    const Task task = shipped_task(expected.task);
    const TaskResult result = judge_task(task, scores_of(task, kModel));
    EXPECT_EQ(result.documents, 200U);
    EXPECT_DOUBLE_EQ(result.acc.value, expected.acc) << expected.task;
    EXPECT_DOUBLE_EQ(result.acc_norm->value, expected.acc_norm) << expected.task;
    EXPECT_NEAR(result.acc.error, std::sqrt(expected.acc * (1 - expected.acc) / 199), 1e-12);
  }
}

TEST(ZeroShotSlowTest, LogLikelihoodsOfSmolLm2AreThoseOfHuggingFace) {
  ASSERT_TRUE(std::filesystem::exists(smollm2())) << "run launch/setup";
  expect_scores_of_reference(smollm2(), "zero-shot-smollm2-135m.json", 200);
}

}  // namespace
}  // namespace lrq::eval

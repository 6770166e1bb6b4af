// Channel statistics by the specification's vector D.
#include "src/quant/observer.h"

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;

TEST(ChannelObserverTest, GivesTheStatisticsOfVectorD) {
  ChannelObserver observer;
  observer.observe(matrix_of({{1, -2}, {3, 0}}).unsqueeze(0));
  expect_vector(observer.absmax(), vector_of({3, 2}));
  expect_vector(observer.shift(), vector_of({2, -1}));
  observer.observe(matrix_of({{-1, 4}, {7, -2}}).unsqueeze(0));
  expect_vector(observer.absmax(), vector_of({7, 4}));
  expect_vector(observer.shift(), vector_of({2.01, -0.98}));
}

TEST(ChannelObserverTest, HalfPrecisionIsCollectedInFloat32) {
  ChannelObserver observer;
  observer.observe(matrix_of({{1, -2}, {3, 0}}, at::kBFloat16).unsqueeze(0));
  EXPECT_EQ(observer.absmax().scalar_type(), at::kFloat);
  EXPECT_EQ(observer.shift().scalar_type(), at::kFloat);
}

TEST(ChannelObserverTest, TakesOneSampleAtATimeOfOneWidth) {
  ChannelObserver observer;
  EXPECT_THROW(observer.observe(at::zeros({2, 3, 4})), BugError);
  observer.observe(at::zeros({1, 3, 4}));
  EXPECT_THROW(observer.observe(at::zeros({1, 3, 5})), BugError);
}

}  // namespace
}  // namespace lrq::quant

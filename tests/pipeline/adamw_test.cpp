#include "src/pipeline/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace lrq::pipeline {
namespace {

// Expected numbers: torch.optim.AdamW in float32, lr 0.01, no decay (docs/methods.md, "AdamW").
TEST(AdamWTest, StepsAsPyTorchDoes) {
  at::Tensor parameters = at::tensor({4.0F, 1.0F});
  AdamW optimizer(parameters, at::full({2}, 0.01), 0.0);
  const at::Tensor yes = at::ones({}, at::kBool);
  const float gradients[3][2] = {{0.5F, -0.001F}, {0.25F, 0.002F}, {-1.0F, 0.0F}};
  const double expected[3][2] = {
      {3.99000001, 1.00999987}, {3.98067832, 1.00633883}, {3.98274183, 1.00350881}};
  for (int step = 0; step < 3; ++step) {
    optimizer.step(at::tensor({gradients[step][0], gradients[step][1]}), yes);
    for (int i = 0; i < 2; ++i) {
      EXPECT_NEAR(parameters[i].item<double>(), expected[step][i], 5e-7) << step << ' ' << i;
    }
  }
}

TEST(AdamWTest, AMaskedStepChangesNothing) {
  at::Tensor parameters = at::tensor({4.0F, 1.0F});
  AdamW optimizer(parameters, at::full({2}, 0.01), 0.1);
  optimizer.step(at::full({2}, NAN), at::zeros({}, at::kBool));
  EXPECT_TRUE(at::equal(parameters, at::tensor({4.0F, 1.0F})));
  EXPECT_TRUE(at::equal(optimizer.first_moment(), at::zeros({2})));
  EXPECT_EQ(optimizer.steps().item<double>(), 0.0);
}

TEST(AdamWTest, DecayIsDecoupledFromTheMoments) {
  at::Tensor parameters = at::tensor({4.0F});
  AdamW optimizer(parameters, at::full({1}, 0.01), 0.5);
  optimizer.step(at::zeros({1}), at::ones({}, at::kBool));
  EXPECT_FLOAT_EQ(parameters.item<float>(), 4.0F * (1.0F - 0.005F));
}

TEST(AdamWTest, RateZeroKeepsAnEntry) {
  at::Tensor parameters = at::tensor({4.0F, 1.0F});
  AdamW optimizer(parameters, at::tensor({0.0F, 0.01F}), 0.0);
  optimizer.step(at::ones({2}), at::ones({}, at::kBool));
  EXPECT_EQ(parameters[0].item<float>(), 4.0F);
  EXPECT_LT(parameters[1].item<float>(), 1.0F);
}

}  // namespace
}  // namespace lrq::pipeline

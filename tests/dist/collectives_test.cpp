#include "dist/collectives.h"

#include <array>
#include <vector>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/dist/threads.h"

/// What holds on every transport is in transport_contract.cpp; here what needs no transport.

namespace lrq::dist {
namespace {

TEST(TreeSumTest, AGroupThatIsNoTreeIsABug) {
  run_as_threads(4, std::chrono::seconds(20), [](Transport& t) {
    if (t.rank().value != 0) return;
    const at::Tensor tensor = at::zeros({1});
    const auto sum = [&](const std::vector<Rank>& group) { tree_sum(t, tensor, group, "sum"); };
    EXPECT_THROW(sum({}), BugError);
    EXPECT_THROW(sum({Rank{0}, Rank{1}, Rank{2}}), BugError);
    EXPECT_THROW(sum({Rank{0}, Rank{0}}), BugError);
    EXPECT_THROW(sum({Rank{1}, Rank{2}}), BugError);
  });
}

}  // namespace
}  // namespace lrq::dist

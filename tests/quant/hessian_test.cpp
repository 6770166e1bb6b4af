// Sums over samples: the order is the tree's, whoever sums.
#include "src/quant/hessian.h"

#include <vector>

#include "src/base/error.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;

std::vector<at::Tensor> samples_of(std::int64_t count) {
  std::vector<at::Tensor> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    samples.push_back(random({5 + i % 3, 6}, static_cast<std::uint64_t>(i + 1)));
  }
  return samples;
}

at::Tensor product(const at::Tensor& x) { return at::mm(x.t(), x); }

// One level after the other: pairs of neighbours, an odd last one moves up alone.
at::Tensor sum_by_levels(std::vector<at::Tensor> level) {
  while (level.size() > 1) {
    std::vector<at::Tensor> next;
    for (std::size_t i = 0; i < level.size(); i += 2) {
      next.push_back(i + 1 < level.size() ? level[i] + level[i + 1] : level[i]);
    }
    level = next;
  }
  return level.front();
}

at::Tensor summed(const std::vector<at::Tensor>& samples) {
  const auto count = static_cast<std::int64_t>(samples.size());
  HessianSum sum(6, count, at::kCPU);
  for (std::int64_t i = 0; i < count; ++i) sum.add(i, samples[static_cast<std::size_t>(i)]);
  return sum.value();
}

TEST(HessianSumTest, IsTwiceTheMeanOfTheSecondMoments) {
  HessianSum sum(2, 2, at::kCPU);
  sum.add(0, matrix_of({{1, 2}}));
  sum.add(1, matrix_of({{3, 0}, {0, -1}}).unsqueeze(0));
  EXPECT_TRUE(at::equal(sum.value(), matrix_of({{10, 2}, {2, 5}}))) << sum.value();
}

TEST(HessianSumTest, TwentySamplesAreEightChunksOfTwoAndThree) {
  std::vector<std::int64_t> counts;
  std::int64_t next = 0;
  for (std::int64_t chunk = 0; chunk < sum_chunks(20); ++chunk) {
    const IndexRange range = sum_chunk(chunk, 20);
    EXPECT_EQ(range.first, next);
    next += range.count;
    counts.push_back(range.count);
  }
  EXPECT_EQ(counts, (std::vector<std::int64_t>{2, 3, 2, 3, 2, 3, 2, 3}));
  EXPECT_EQ(next, 20);
}

TEST(HessianSumTest, FewerThanEightSamplesAreAChunkEach) {
  EXPECT_EQ(sum_chunks(5), 5);
  EXPECT_EQ(sum_chunk(3, 5), (IndexRange{.first = 3, .count = 1}));
}

TEST(HessianSumTest, EqualsTheExplicitTreeBitForBit) {
  for (const std::int64_t count : {1, 2, 3, 5, 6, 7, 8, 9, 20, 37}) {
    const auto samples = samples_of(count);
    std::vector<at::Tensor> chunks;
    for (std::int64_t chunk = 0; chunk < std::min<std::int64_t>(count, 8); ++chunk) {
      const auto begin = static_cast<std::size_t>(chunk * count / std::min<std::int64_t>(count, 8));
      const auto end =
          static_cast<std::size_t>((chunk + 1) * count / std::min<std::int64_t>(count, 8));
      at::Tensor sum = product(samples[begin]);
      for (std::size_t i = begin + 1; i < end; ++i) sum = sum + product(samples[i]);
      chunks.push_back(sum);
    }
    const at::Tensor expected = sum_by_levels(chunks) * (2.0 / static_cast<double>(count));
    EXPECT_TRUE(at::equal(summed(samples), expected)) << count << " samples";
  }
}

TEST(HessianSumTest, ReplicasThatOwnWholeChunksGiveTheBitsOfOne) {
  for (const std::int64_t count : {3, 7, 20}) {
    const auto samples = samples_of(count);
    const std::int64_t chunks = sum_chunks(count);
    for (std::int64_t cut = 1; cut < chunks; ++cut) {
      HessianSum left(6, count, at::kCPU);
      HessianSum right(6, count, at::kCPU, cut);
      const std::int64_t middle = sum_chunk(cut, count).first;
      for (std::int64_t i = 0; i < count; ++i) {
        (i < middle ? left : right).add(i, samples[static_cast<std::size_t>(i)]);
      }
      for (const HessianSum::Part& part : right.parts()) left.append(part);
      EXPECT_TRUE(at::equal(left.value(), summed(samples))) << count << ", " << cut;
    }
  }
}

TEST(HessianSumTest, KeepsNoMorePartialSumsThanTheTreeIsDeep) {
  const auto samples = samples_of(16);
  HessianSum sum(6, 16, at::kCPU);
  std::size_t most = 0;
  for (std::int64_t i = 0; i < 16; ++i) {
    sum.add(i, samples[static_cast<std::size_t>(i)]);
    if (i % 2 == 1) most = std::max(most, sum.parts().size());
  }
  EXPECT_EQ(most, 3U);
  EXPECT_EQ(sum.parts().size(), 1U);
}

TEST(HessianSumTest, HalfPrecisionIsSummedInFloat32) {
  HessianSum sum(1, 1, at::kCPU);
  sum.add(0, at::full({300, 1}, 1.0, at::kBFloat16));
  EXPECT_TRUE(at::equal(sum.value(), matrix_of({{600}}))) << sum.value();
}

TEST(HessianSumTest, RefusesGapsAndUnfinishedSums) {
  HessianSum sum(6, 3, at::kCPU);
  const auto samples = samples_of(3);
  EXPECT_THROW(sum.add(1, samples[1]), BugError);
  sum.add(0, samples[0]);
  EXPECT_THROW((void)sum.value(), BugError);
  EXPECT_THROW(sum.add(1, at::zeros({4, 5})), BugError);
  sum.add(1, samples[1]);
  sum.add(2, samples[2]);
  EXPECT_THROW(sum.add(3, samples[2]), BugError);
}

}  // namespace
}  // namespace lrq::quant

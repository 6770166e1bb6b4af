#include "src/pipeline/partition.h"

#include <algorithm>

#include "src/base/check.h"

namespace lrq::pipeline {
namespace {

/// Fill stages from the front with as many blocks as `limit` allows, keeping one for each stage
/// behind; empty if the blocks do not fit.
std::vector<BlockRange> fill(const std::vector<double>& costs, int stages, double first_extra,
                             double last_extra, double limit) {
  const int blocks = static_cast<int>(costs.size());
  std::vector<BlockRange> ranges;
  int next = 0;
  for (int stage = 0; stage < stages; ++stage) {
    const int behind = stages - stage - 1;
    BlockRange range{next, next};
    double cost = (stage == 0 ? first_extra : 0.0) + (behind == 0 ? last_extra : 0.0);
    while (range.last < blocks - behind) {
      const double more = cost + costs[static_cast<std::size_t>(range.last)];
      if (more > limit && range.size() > 0) break;
      cost = more;
      ++range.last;
    }
    if (cost > limit) return {};
    next = range.last;
    ranges.push_back(range);
  }
  return next == blocks ? ranges : std::vector<BlockRange>{};
}

}  // namespace

std::vector<BlockRange> partition(const std::vector<double>& block_costs, int stages,
                                  double first_extra, double last_extra) {
  const int blocks = static_cast<int>(block_costs.size());
  expect(stages >= 1 && stages <= blocks, "stages must be 1 .. number of blocks");
  // The best limit is the cost of some run of blocks, so trying all of them in order finds it.
  std::vector<double> limits;
  for (int first = 0; first < blocks; ++first) {
    double cost = 0.0;
    for (int last = first; last < blocks; ++last) {
      cost += block_costs[static_cast<std::size_t>(last)];
      limits.push_back(cost + (first == 0 ? first_extra : 0.0) +
                       (last + 1 == blocks ? last_extra : 0.0));
    }
  }
  std::sort(limits.begin(), limits.end());
  for (const double limit : limits) {
    // Sums of the same costs in another order differ in the last bits.
    auto ranges = fill(block_costs, stages, first_extra, last_extra, limit * (1.0 + 1e-9));
    if (!ranges.empty()) return ranges;
  }
  expect(false, "a partition exists for every 1 .. blocks stages");
  return {};
}

std::vector<BlockRange> split_evenly(BlockRange blocks, int stages) {
  auto ranges =
      partition(std::vector<double>(static_cast<std::size_t>(blocks.size()), 1.0), stages);
  for (BlockRange& range : ranges) {
    range.first += blocks.first;
    range.last += blocks.first;
  }
  return ranges;
}

std::vector<BlockRange> waves_of(int blocks, int width) {
  expect(blocks >= 1 && width >= 1, "a model has blocks and a wave has a width");
  std::vector<BlockRange> waves;
  for (int first = 0; first < blocks; first += width) {
    waves.push_back({first, std::min(first + width, blocks)});
  }
  return waves;
}

}  // namespace lrq::pipeline

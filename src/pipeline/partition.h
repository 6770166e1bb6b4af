#pragma once

#include <vector>

namespace lrq::pipeline {

/// Consecutive blocks [first, last) of one stage.
struct BlockRange {
  int first = 0;
  int last = 0;
  [[nodiscard]] int size() const { return last - first; }
  friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

/// Split consecutive blocks into `stages` stages so that the most expensive stage is as cheap as
/// can be; every stage gets at least one block.  Of equally good splits the one with the earlier
/// stages larger is taken, so the result depends on the arguments alone. block_costs: one per
/// block, > 0.  first_extra, last_extra: what the first and the last stage do besides (embedding,
/// head).  Throws BugError if stages is not in 1 .. number of blocks.
[[nodiscard]] std::vector<BlockRange> partition(const std::vector<double>& block_costs, int stages,
                                                double first_extra = 0.0, double last_extra = 0.0);

/// Blocks that all cost the same, split into stages by partition().
[[nodiscard]] std::vector<BlockRange> split_evenly(BlockRange blocks, int stages);

/// The waves of a model: wave w holds blocks w*width .. min((w+1)*width, blocks)-1; width > blocks
/// means blocks.  Never depends on ranks.
[[nodiscard]] std::vector<BlockRange> waves_of(int blocks, int width);

}  // namespace lrq::pipeline

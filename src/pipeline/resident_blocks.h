#pragma once

#include <cstdint>
#include <functional>

namespace lrq::pipeline {

/// Steps (or samples) that a block does before the next one of its stage takes its place in memory:
/// enough that the reading of its weights weighs little, few enough that their inputs fit.
inline constexpr std::int64_t kTurnOfResidentBlock = 16;

/// Steps or samples that a block does before the next one of its rank.  limit: of resident blocks;
/// 0 is none.
[[nodiscard]] inline std::int64_t turn_of(int limit) {
  return limit > 0 ? kTurnOfResidentBlock : 1;
}

/// Of a stage's blocks, those whose weights are in memory at the same time.  limit: 0 is no limit.
[[nodiscard]] inline int blocks_at_once(int blocks, int limit) {
  return limit > 0 && limit < blocks ? limit : blocks;
}

/// Blocks that a stage reads in its first turn, and again in each later one.
[[nodiscard]] inline int loads_of_turn(int blocks, int limit, bool first) {
  if (first) return blocks;
  const int at_once = blocks_at_once(blocks, limit);
  return at_once == blocks ? 0 : blocks - (at_once - 1);
}

/// Which blocks of a stage have their weights in memory (--resident-blocks): all of them, or the
/// first `limit` - 1 for good and of the others the one whose turn it is.  Blocks take turns from
/// the first to the last, so that of all rules this one loads least.
class ResidentBlocks {
 public:
  /// blocks: of the stage.  limit: 0 is no limit.
  ResidentBlocks(int blocks, int limit) : limit_(blocks_at_once(blocks, limit)) {}

  /// Before block `i` of the stage works: if its weights are not there, drop those of the block
  /// that gives way, then load.  The first time block after block.
  void enter(int i, const std::function<void(int)>& drop, const std::function<void(int)>& load) {
    if (i < for_good_ || in_turn_ == i) return;
    if (i < limit_ - 1) {
      for_good_ = i + 1;
    } else {
      if (in_turn_ >= 0) drop(in_turn_);
      in_turn_ = i;
    }
    load(i);
  }

 private:
  int limit_;
  int for_good_ = 0;
  int in_turn_ = -1;  // none
};

}  // namespace lrq::pipeline

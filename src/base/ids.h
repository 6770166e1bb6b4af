#pragma once

#include <compare>
#include <functional>
#include <ostream>

namespace lrq {

/// An index that cannot be mistaken for another kind of index.
template <typename Tag>
struct StrongIndex {
  int value = 0;
  auto operator<=>(const StrongIndex&) const = default;
  friend std::ostream& operator<<(std::ostream& out, StrongIndex index) {
    return out << index.value;
  }
};

using Rank = StrongIndex<struct RankTag>;               ///< a process of the run
using BlockIndex = StrongIndex<struct BlockTag>;        ///< a transformer block, 0 .. L-1
using BoundaryIndex = StrongIndex<struct BoundaryTag>;  ///< input of block k; L is the last output

}  // namespace lrq

template <typename Tag>
struct std::hash<lrq::StrongIndex<Tag>> {
  std::size_t operator()(lrq::StrongIndex<Tag> index) const noexcept {
    return std::hash<int>{}(index.value);
  }
};

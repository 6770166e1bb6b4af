#include "io/bpe_merger.h"

#include <cstddef>
#include <limits>
#include <queue>

#include "src/base/check.h"

namespace lrq::io {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) |
         static_cast<std::uint32_t>(right);
}

constexpr std::int32_t kNone = -1;

/// A symbol in the list of those still there; id is kNone once its left neighbour has taken it up.
struct Symbol {
  std::int32_t id = kNone;
  std::int32_t previous = kNone;
  std::int32_t next = kNone;
};

/// A pair that can be joined, as it was when it was found.
struct Candidate {
  std::int32_t rank = 0;
  std::int32_t at = 0;
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t merged = 0;
};

struct ComesLater {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  }
};

}  // namespace

bool BpeMerger::add(std::int32_t left, std::int32_t right, std::int32_t merged) {
  return merges_
      .insert_or_assign(pair_key(left, right), Merge{.rank = next_rank_++, .merged = merged})
      .second;
}

const BpeMerger::Merge* BpeMerger::find(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeMerger::merge(std::vector<std::int32_t>& ids) const {
  if (ids.size() < 2) return;
  expect(ids.size() < std::numeric_limits<std::int32_t>::max(), "a piece below 2^31 symbols");
  const auto count = static_cast<std::int32_t>(ids.size());
  std::vector<Symbol> symbols(ids.size());
  const auto symbol = [&](std::int32_t at) -> Symbol& {
    return symbols[static_cast<std::size_t>(at)];
  };
  for (std::int32_t i = 0; i < count; ++i) {
    symbol(i) = {.id = ids[static_cast<std::size_t>(i)],
                 .previous = i - 1,
                 .next = i + 1 < count ? i + 1 : kNone};
  }
  std::priority_queue<Candidate, std::vector<Candidate>, ComesLater> queue;
  const auto offer = [&](std::int32_t at) {
    if (at == kNone || symbol(at).next == kNone) return;
    const std::int32_t left = symbol(at).id;
    const std::int32_t right = symbol(symbol(at).next).id;
    if (const Merge* merge = find(left, right)) {
      queue.push({merge->rank, at, left, right, merge->merged});
    }
  };
  for (std::int32_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbol(top.at);
    // The pair may be gone: one of the two was joined with another neighbour since.
    if (left.id != top.left || left.next == kNone || symbol(left.next).id != top.right) continue;
    Symbol& right = symbol(left.next);
    left.id = top.merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbol(left.next).previous = top.at;
    offer(left.previous);
    offer(top.at);
  }
  ids.clear();
  for (const Symbol& left : symbols) {
    if (left.id != kNone) ids.push_back(left.id);
  }
}

}  // namespace lrq::io

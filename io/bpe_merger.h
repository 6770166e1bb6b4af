#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace lrq::io {

/// Join the symbols of one piece by byte-pair encoding: always the pair of neighbours of lowest
/// rank, the leftmost of them first, until no pair has a merge. Source: Sennrich et al. 2016; order
/// as in Hugging Face tokenizers. Takes O(n log n), so that a whole text can be one piece. Threads:
/// any, once filled.
class BpeMerger {
 public:
  /// Say that `left` and `right` join to `merged`; the first added has the lowest rank.  Returns
  /// false if the pair has a merge already (the later one then wins, as in Hugging Face
  /// tokenizers).
  bool add(std::int32_t left, std::int32_t right, std::int32_t merged);

  /// Join `ids` in place.
  void merge(std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::int32_t rank = 0;
    std::int32_t merged = 0;
  };
  [[nodiscard]] const Merge* find(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::uint64_t, Merge> merges_;
  std::int32_t next_rank_ = 0;
};

}  // namespace lrq::io

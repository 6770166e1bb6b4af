#include "src/pipeline/sample_share.h"

#include <bit>
#include <vector>

#include "dist/collectives.h"
#include "src/pipeline/idle_ranks.h"

namespace lrq::pipeline {

quant::IndexRange SampleShare::chunks(std::int64_t samples) const {
  const std::int64_t each = quant::sum_chunks(samples) / count;
  return {.first = place * each, .count = each};
}

quant::IndexRange SampleShare::of(std::int64_t samples) const {
  const quant::IndexRange mine = chunks(samples);
  const std::int64_t first = quant::sum_chunk(mine.first, samples).first;
  const quant::IndexRange last = quant::sum_chunk(mine.first + mine.count - 1, samples);
  return {.first = first, .count = last.first + last.count - first};
}

int sharing_ranks(int ranks, std::int64_t samples) {
  const auto chunks = static_cast<std::uint64_t>(quant::sum_chunks(samples));
  // Halves of another number of chunks are no subtrees.
  if (!std::has_single_bit(chunks)) return 1;
  return static_cast<int>(std::bit_floor(std::min(static_cast<std::uint64_t>(ranks), chunks)));
}

void share_samples(const RunContext& context, const std::function<void(const SampleShare&)>& work) {
  const int count = sharing_ranks(context.ranks(), context.samples);
  if (context.rank() >= count) return wait_as_idle_rank(context.transport);
  std::vector<Rank> group;
  for (int rank = 0; rank < count; ++rank) group.push_back(Rank{rank});
  IdleRanks idle(context.transport, count);
  work({.count = count,
        .place = context.rank(),
        .sum =
            [&](const at::Tensor& t) {
              dist::tree_sum(context.transport, t, group, "shared samples");
            },
        .alive =
            [&] {
              if (context.rank() == 0) idle.beat();
            }});
  if (context.rank() == 0) idle.release();
}

}  // namespace lrq::pipeline

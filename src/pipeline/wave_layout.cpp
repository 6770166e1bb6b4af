#include "src/pipeline/wave_layout.h"

#include <algorithm>
#include <bit>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {

WaveLayout wave_layout(const recipe::Recipe& recipe, int ranks, int blocks, int replicas) {
  if (replicas == 0) {
    replicas = 1;
    const auto fits = [&](int count) {
      return recipe.train.batch_size % count == 0 && count * blocks <= ranks;
    };
    while (fits(2 * replicas)) replicas *= 2;
  }
  return {.stages = std::min(ranks / replicas, blocks), .replicas = replicas};
}

std::int64_t most_ranks(int blocks, const recipe::Recipe& recipe) {
  return static_cast<std::int64_t>(blocks) * recipe.train.batch_size;
}

std::string_view schedule_name(recipe::Schedule schedule) {
  return schedule == recipe::Schedule::kWaves ? "waves" : "independent";
}

void check_replicas(const recipe::Recipe& recipe, int ranks, int replicas) {
  const std::int64_t batch = recipe.train.batch_size;
  if (replicas < 1 || !std::has_single_bit(static_cast<unsigned>(replicas)) ||
      batch % replicas != 0) {
    throw UsageError({.what = concat(replicas, " replicas cannot share a micro-batch of ", batch,
                                     ": a power of two that divides it can"),
                      .where = "options --replicas, --batch-size",
                      .fix = "lower --replicas, or raise --batch-size"});
  }
  if (replicas > ranks) {
    throw UsageError(
        {.what = concat(replicas, " replicas of a stage do not fit on ", ranks, " ranks"),
         .where = "option --replicas, number of ranks",
         .fix = "lower --replicas, or add ranks"});
  }
}

}  // namespace lrq::pipeline

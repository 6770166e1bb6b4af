#pragma once

#include <cstdint>
#include <string_view>

#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// How the ranks of a run share a wave: rank r is replica r % replicas of stage r / replicas.
struct WaveLayout {
  int stages = 1;
  int replicas = 1;
  [[nodiscard]] int ranks() const { return stages * replicas; }  ///< the others wait
};

/// replicas: those asked for, or 0: the largest power of two that divides the micro-batch and
/// leaves every block a rank.
[[nodiscard]] WaveLayout wave_layout(const recipe::Recipe& recipe, int ranks, int blocks,
                                     int replicas);

/// The most ranks that a run may have: one for each sample of a micro-batch of each block.
[[nodiscard]] std::int64_t most_ranks(int blocks, const recipe::Recipe& recipe);

/// The schedule's name in the registry of schedules.
[[nodiscard]] std::string_view schedule_name(recipe::Schedule schedule);

/// Throws UsageError unless `replicas` ranks can share every micro-batch of the recipe.
void check_replicas(const recipe::Recipe& recipe, int ranks, int replicas);

}  // namespace lrq::pipeline

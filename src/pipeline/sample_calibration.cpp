#include "src/pipeline/sample_calibration.h"

#include "src/pipeline/cluster_calibration.h"
#include "src/pipeline/gptq_rounding.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/wave_learning.h"

namespace lrq::pipeline {

void calibrate_by_samples(const RunContext& context, BlockIndex index,
                          models::NamedTensors& learned) {
  const recipe::Recipe& recipe = context.recipe;
  if (!has_clusters(recipe) && !rounds_by_gptq(recipe)) return;
  const bool independent = recipe.train.schedule == recipe::Schedule::kIndependent;
  const SampleReader reader(
      context, independent ? io::Boundary{io::Chain::kFullPrecision, BoundaryIndex{index.value}}
                           : wave_input(index.value));
  const models::NamedTensors weights = context.model.block(index);
  const BlockSamples block{.family = context.model.family(),
                           .weights = weights,
                           .recipe = recipe,
                           .samples = context.samples,
                           .read = [&](std::int64_t sample) { return reader.read(sample); },
                           .compute = context.compute};
  if (has_clusters(recipe)) {
    learned.merge(
        calibrated_clusters(block, learned, {.seed = context.seed, .block = index.value}));
  }
  if (rounds_by_gptq(recipe)) learned.merge(gptq_codes(block, learned));
}

}  // namespace lrq::pipeline

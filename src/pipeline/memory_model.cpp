#include "src/pipeline/memory_model.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/resident_blocks.h"

namespace lrq::pipeline {
namespace {

constexpr double kKeptOfFreed = 0.15;
constexpr double kGivenBackFrom = 32.0 * 1024 * 1024;  // the highest mmap threshold of glibc
constexpr double kTokenizerEach = 400.0;
constexpr double kMessagesEachWay = 2.0;  // posted or under way: activation_link.h
constexpr double kStepsReadAhead = 2.0;   // stage_samples.cpp

double bytes(std::int64_t elements, double each) { return static_cast<double>(elements) * each; }

/// Elements of T tokens, each so many times as wide as C, Q, V and I.
double activations(const BlockWork& work, double hidden, double queries, double values,
                   double inner) {
  const BlockFigures& b = work.block;
  return kFloatBytes * static_cast<double>(work.tokens) *
         (hidden * static_cast<double>(b.hidden) + queries * static_cast<double>(b.queries) +
          values * static_cast<double>(b.values) + inner * static_cast<double>(b.inner));
}

double forward_activations(const BlockWork& work) { return activations(work, 4, 2, 0, 4); }

bool keeps_original(const recipe::Recipe& recipe) {
  return recipe.loss.mse_r > 0.0 || recipe.loss.nlc_r > 0.0;
}

/// models::fold keeps weights in a basis only where no scale is learned in front of it.
bool keeps_changed_weights(const recipe::Recipe& recipe) {
  const models::BlockMethod method = block_method(recipe);
  return !method.map.none() && method.scale != models::ScaleMode::kLearned;
}

/// Samples (or micro-batches) that a rank takes through its blocks together.
double in_a_turn(const RankShare& share) {
  return static_cast<double>(turn_of(share.resident_blocks));
}

/// Targets of each block, and the inputs of the first.
double kept_targets(const BlockWork& work, const RankShare& share) {
  return (share.learn_blocks + 1.0) * static_cast<double>(share.kept_samples) *
         work.boundary_bytes();
}

}  // namespace

const MemoryUse& RankMemory::heaviest() const {
  const MemoryUse& late = learn.total() >= freeze.total() ? learn : freeze;
  return chain.total() > late.total() ? chain : late;
}

double RankMemory::most() const { return base + kept + heaviest().total(); }

MemoryUse chain_memory(const BlockWork& work, const ModelFigures& model, const RankShare& share) {
  if (share.chain_blocks == 0) return {};
  const BlockFigures& b = work.block;
  const double embedding = share.embeds ? bytes(model.embedding, kFloatBytes) : 0.0;
  const double samples = forward_activations(work) +
                         (in_a_turn(share) + 2.0 * kMessagesEachWay) * work.boundary_bytes();
  // One after the other: the last block is read, then the embedding, then samples come.
  const double pages =
      share.embeds && !share.on_device ? bytes(model.embedding, work.file_bytes) : 0.0;
  const double reading =
      std::max({0.0, bytes(b.parameters, kFloatBytes) - embedding - samples, pages - samples});
  const int there = blocks_at_once(share.chain_blocks, share.resident_blocks);
  return {.weights = there * bytes(b.weights, work.compute_bytes) + embedding,
          .work = reading,
          .activations = samples};
}

MemoryUse learn_memory(const BlockWork& work, const RankShare& share) {
  if (share.learn_blocks == 0) return {};
  const BlockFigures& b = work.block;
  const double blocks = share.learn_blocks;
  const double there = blocks_at_once(share.learn_blocks, share.resident_blocks);
  const double learnables = bytes(work.learnables.stepped, kFloatBytes);
  MemoryUse use;
  use.weights = there * bytes(b.parameters, kFloatBytes);
  if (keeps_original(work.recipe)) use.weights += there * bytes(b.weights, work.compute_bytes);
  if (keeps_changed_weights(work.recipe)) use.weights += there * bytes(b.weights, kFloatBytes);
  use.learnables = blocks * (2.0 * learnables + bytes(work.learnables.fixed, kFloatBytes));
  if (work.recipe.train.keep_best) use.learnables += blocks * work.recipe.train.epochs * learnables;
  use.optimiser = blocks * 3.0 * learnables;
  use.work = bytes(b.weights, work.compute_bytes) + bytes(b.largest_weight, 2.0 * kFloatBytes) +
             4.0 * learnables;
  if (work.compute_bytes != 4) use.work += bytes(b.largest_weight, kFloatBytes);
  const double shared = b.shares_heads ? 2.0 : 0.0;
  const auto samples = static_cast<double>(share.samples);
  use.activations = activations(work, 12, 5.0 + shared, 6, 8) +
                    (3.0 + 2.0 * kMessagesEachWay) * samples * work.boundary_bytes();
  use.activations += 2.0 * (in_a_turn(share) - 1.0) * samples * work.boundary_bytes();
  if (share.recomputes) {
    use.weights += there * bytes(b.weights, work.compute_bytes);
    use.activations += 2.0 * kMessagesEachWay * samples * work.boundary_bytes();
  } else if (!share.on_device) {
    use.activations += kStepsReadAhead * (blocks + 1.0) * samples * work.boundary_bytes();
  }
  use.targets = kept_targets(work, share);
  return use;
}

MemoryUse freeze_memory(const BlockWork& work, const RankShare& share) {
  if (share.learn_blocks == 0) return {};
  const BlockFigures& b = work.block;
  const double copies = share.recomputes ? 2.0 : 1.0;
  const int there = blocks_at_once(share.learn_blocks, share.resident_blocks);
  return {.weights = copies * there * bytes(b.weights, work.compute_bytes),
          .learnables = bytes(work.learnables.stepped + work.learnables.fixed, kFloatBytes),
          .work = bytes(b.parameters, kFloatBytes) + bytes(b.largest_weight, kFloatBytes),
          .activations = forward_activations(work) +
                         (1.0 + in_a_turn(share) + 2.0 * kMessagesEachWay) * work.boundary_bytes()};
}

RankMemory rank_memory(const BlockWork& work, const ModelFigures& model, const RankShare& share,
                       const Machine& machine) {
  RankMemory memory{.chain = chain_memory(work, model, share),
                    .learn = learn_memory(work, share),
                    .freeze = freeze_memory(work, share),
                    .base = machine.base_bytes};
  if (share.on_device) return memory;
  if (bytes(work.block.largest_weight, kFloatBytes) < kGivenBackFrom) {
    memory.kept = kKeptOfFreed * (blocks_at_once(share.chain_blocks, share.resident_blocks) *
                                      bytes(work.block.weights, work.compute_bytes) +
                                  memory.learn.total());
  }
  if (share.embeds) memory.kept += bytes(model.vocabulary, kTokenizerEach);
  return memory;
}

}  // namespace lrq::pipeline

#include "src/pipeline/sample_calibration.h"

#include <memory>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "dist/collectives.h"
#include "src/pipeline/block_state.h"
#include "src/pipeline/cluster_calibration.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/gptq_rounding.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/sample_share.h"
#include "src/pipeline/wave_learning.h"

namespace lrq::pipeline {
namespace {

/// The learned numbers among a block's learnables, in the order of their names.  Whole ones
/// (permutations, sizes) never change from the start on, which every rank knows.
std::vector<at::Tensor> learned_numbers(models::NamedTensors& learnables) {
  std::vector<at::Tensor> numbers;
  for (auto& [name, tensor] : learnables) {
    if (!at::isFloatingType(tensor.scalar_type())) continue;
    tensor = tensor.to(at::kFloat).contiguous();
    numbers.push_back(tensor);
  }
  return numbers;
}

/// Rounds or clusters one block on the ranks that share its samples.
class Finishing {
 public:
  Finishing(const RunContext& context, BlockIndex index, Rank owner)
      : context_(context), index_(index), owner_(owner) {}

  /// learned: on the owner.
  void run(models::NamedTensors learned) const {
    const Rank me = context_.transport.rank();
    if (me == owner_) send(learned);
    share_samples(context_, [&](const SampleShare& share) {
      const models::NamedTensors weights = context_.model.block(index_);
      if (me != owner_) learned = receive(weights);
      finish(weights, std::move(learned), share);
    });
  }

 private:
  void send(models::NamedTensors& learned) const {
    std::vector<std::unique_ptr<dist::Pending>> under_way;
    for (const at::Tensor& numbers : learned_numbers(learned)) {
      for (int rank = 0; rank < sharing_ranks(context_.ranks(), context_.samples); ++rank) {
        if (Rank{rank} == owner_) continue;
        under_way.push_back(context_.transport.send(numbers, Rank{rank}, "learned"));
      }
    }
    for (const auto& pending : under_way) pending->wait();
  }

  [[nodiscard]] models::NamedTensors receive(const models::NamedTensors& weights) const {
    models::NamedTensors learned = start_learnables(context_.model.family(), context_.states,
                                                    context_.recipe)(index_, weights);
    for (const at::Tensor& numbers : learned_numbers(learned)) {
      context_.transport.recv(numbers, owner_, "learned")->wait();
    }
    return learned;
  }

  void finish(const models::NamedTensors& weights, models::NamedTensors state,
              const SampleShare& share) const {
    const recipe::Recipe& recipe = context_.recipe;
    const bool independent = recipe.train.schedule == recipe::Schedule::kIndependent;
    const SampleReader reader(
        context_, independent ? io::Boundary{io::Chain::kFullPrecision, BoundaryIndex{index_.value}}
                              : wave_input(index_.value));
    const BlockSamples block{.family = context_.model.family(),
                             .weights = weights,
                             .recipe = recipe,
                             .samples = context_.samples,
                             .read = [&](std::int64_t sample) { return reader.read(sample); },
                             .compute = context_.compute,
                             .share = share};
    if (has_clusters(recipe)) {
      state.merge(
          calibrated_clusters(block, state, {.seed = context_.seed, .block = index_.value}));
    }
    if (rounds_by_gptq(recipe)) state.merge(gptq_codes(block, state));
    if (context_.rank() == 0) {
      context_.states.save_block(index_, finished_block(index_, recipe, state));
    }
  }

  const RunContext& context_;  // borrowed for one block
  BlockIndex index_;
  Rank owner_;
};

}  // namespace

bool finishes_by_samples(const recipe::Recipe& recipe) {
  return has_clusters(recipe) || rounds_by_gptq(recipe);
}

void finish_by_samples(const RunContext& context, const std::vector<BlockRange>& stages,
                       int replicas, const std::vector<models::NamedTensors>& learned) {
  const std::string left = learned.empty() ? "early" : "";
  if (!dist::broadcast_text(context.transport, left, Rank{0}, "end of a wave").empty()) return;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const Rank owner{static_cast<int>(stage) * replicas};
    const bool mine = context.transport.rank() == owner;
    for (int i = 0; i < stages[stage].size(); ++i) {
      Finishing(context, BlockIndex{stages[stage].first + i}, owner)
          .run(mine ? learned[static_cast<std::size_t>(i)] : models::NamedTensors());
    }
  }
}

}  // namespace lrq::pipeline

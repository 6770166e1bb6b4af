#include "src/pipeline/freezing.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "dist/collectives.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/keep_best.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/wave_learning.h"
#include "src/quant/loss.h"

namespace lrq::pipeline {
namespace {

/// [blocks of the wave, N, 2] float64 on every rank: MSE and NLC of each sample behind each block;
/// NaN where another rank has measured.
at::Tensor unmeasured(const RunContext& context, BlockRange blocks, at::Device device) {
  return at::full({blocks.size(), context.samples, 2}, std::numeric_limits<double>::quiet_NaN(),
                  at::TensorOptions().dtype(at::kDouble).device(device));
}

/// Means and medians over the samples, from what each rank has measured.
std::vector<PropagatedLoss> summarised(const RunContext& context, BlockRange blocks,
                                       const std::vector<at::Tensor>& from_ranks) {
  at::Tensor all = unmeasured(context, blocks, at::kCPU);
  for (const at::Tensor& losses : from_ranks) {
    all =
        at::where(all.isnan(), losses, all);  // a measured NaN stays one: every rank has NaN there
  }
  const at::Tensor mean = all.mean({1});
  const at::Tensor median = std::get<0>(all.median(1));
  std::vector<PropagatedLoss> summary;
  for (int i = 0; i < blocks.size(); ++i) {
    summary.push_back({.block = BlockIndex{blocks.first + i},
                       .mse_mean = mean[i][0].item<double>(),
                       .mse_median = median[i][0].item<double>(),
                       .nlc_mean = mean[i][1].item<double>(),
                       .nlc_median = median[i][1].item<double>()});
  }
  return summary;
}

/// This rank's part of the pass: its frozen blocks, their targets, and where samples come from and
/// go.
class FreezingStage {
 public:
  FreezingStage(const RunContext& context, BlockRange wave, BlockRange mine,
                const LearnablesOf& learnables_of)
      : context_(context),
        wave_(wave),
        mine_(mine),
        stage_(context.model, mine, &context.recipe, learnables_of, context.compute, context.store),
        losses_(unmeasured(context, wave, context.device())) {
    for (int block = mine.first; block < mine.last; ++block) {
      targets_.emplace_back(context,
                            io::Boundary{io::Chain::kFullPrecision, BoundaryIndex{block + 1}});
    }
    if (mine.first == wave.first) inputs_.emplace(context, wave_input(wave.first));
  }

  void store_outputs(const io::Boundary& boundary, std::int64_t samples) {
    shard_ = context_.activations.create(boundary, context_.transport.rank(), samples);
  }

  [[nodiscard]] at::Tensor source(std::int64_t sample) const { return inputs_->read(sample); }

  [[nodiscard]] at::Tensor forward(at::Tensor x, std::int64_t sample) {
    for (int i = 0; i < stage_.size(); ++i) {
      x = stage_.forward(i, x);
      const at::Tensor target = targets_[static_cast<std::size_t>(i)].read(sample);
      measure(losses_[mine_.first - wave_.first + i][sample], x, target);
    }
    if (shard_) write_sample(*shard_, sample, x);
    return x;
  }

  void seal() {
    if (shard_) shard_->seal();
  }
  /// In host memory, as ranks exchange them.
  [[nodiscard]] at::Tensor losses() const { return losses_.to(at::kCPU); }

 private:
  void measure(const at::Tensor& losses, const at::Tensor& output, const at::Tensor& target) const {
    losses[0].copy_(quant::mse_loss(output, target));
    losses[1].copy_(quant::nlc_loss(output, target, nlc_options(context_.recipe)));
  }

  const RunContext& context_;
  BlockRange wave_;
  BlockRange mine_;
  FrozenStage stage_;
  at::Tensor losses_;  // on the device: one copy to the host for all samples
  std::vector<SampleReader> targets_;
  std::optional<SampleReader> inputs_;
  std::unique_ptr<io::ShardWriter> shard_;
};

}  // namespace

std::vector<PropagatedLoss> propagate_wave(const RunContext& context, BlockRange blocks,
                                           const LearnablesOf& learnables_of,
                                           StoreOutputs store_outputs) {
  const c10::NoGradGuard no_grad;
  const int stages = std::min(context.ranks(), blocks.size());
  const ForwardShape shape{.ranks = context.ranks(),
                           .stages = stages,
                           .replicas = static_cast<int>(
                               std::min<std::int64_t>(context.ranks() / stages, context.samples)),
                           .samples = context.samples};
  const Plan plan = plan_forward(shape);
  simulate(plan);
  const io::Boundary output{io::Chain::kQuantized, BoundaryIndex{blocks.last}};
  if (store_outputs == StoreOutputs::kYes) {
    if (context.rank() == 0) context.activations.remove(output);
    dist::barrier(context.transport, "old shards removed");
  }

  at::Tensor losses = unmeasured(context, blocks, at::kCPU);
  const auto rank = static_cast<std::size_t>(context.rank());
  std::optional<FreezingStage> stage;
  if (!plan.ranks[rank].empty()) {
    BlockRange mine = partition(std::vector<double>(static_cast<std::size_t>(blocks.size()), 1.0),
                                stages)[rank % static_cast<std::size_t>(stages)];
    mine = {mine.first + blocks.first, mine.last + blocks.first};
    stage.emplace(context, blocks, mine, learnables_of);
    const SampleRange samples = samples_of_replica(shape, context.rank() / stages);
    if (store_outputs == StoreOutputs::kYes && plan.next[rank] < 0) {
      stage->store_outputs(output, samples.last - samples.first);
    }
  }
  run_forward(context.transport, plan,
              {.tokens = context.tokens,
               .hidden = context.hidden(),
               .dtype = context.store,
               .device = context.device()},
              {.source = [&](std::int64_t sample) { return stage->source(sample); },
               .blocks = [&](const at::Tensor& x,
                             std::int64_t sample) { return stage->forward(x, sample); }});
  if (stage) {
    stage->seal();
    losses = stage->losses();
  }
  const auto gathered = dist::gather(context.transport, losses, Rank{0}, "propagated losses");
  if (context.rank() != 0) return {};
  return summarised(context, blocks, gathered);
}

void freeze_wave(const RunContext& context, int wave, BlockRange blocks, bool next_inputs) {
  context.log.phase("freeze",
                    concat("wave=", wave, " blocks=", blocks.first, "-", blocks.last - 1));
  std::vector<PropagatedLoss> start;
  if (learns(context.recipe)) {
    const auto from_start =
        start_learnables(context.model.family(), context.states, context.recipe);
    start = propagate_wave(context, blocks, from_start, StoreOutputs::kNo);
    if (context.recipe.train.keep_best) keep_best(context, wave, blocks, start);
  }
  const auto losses = propagate_wave(context, blocks, finished_learnables(context.states),
                                     next_inputs ? StoreOutputs::kYes : StoreOutputs::kNo);
  if (context.rank() == 0) context.log.frozen(wave, losses, start);
  dist::barrier(context.transport, "inputs of the next wave sealed");
}

}  // namespace lrq::pipeline

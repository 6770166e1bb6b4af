#include "src/pipeline/freezing.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "dist/collectives.h"
#include "io/io_thread.h"
#include "io/read_ahead.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/frozen_stage.h"
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
/// go.  With Targets::kRecompute a sample is two tensors, the second one the original chain's.
class FreezingStage {
 public:
  /// samples: those that this rank takes through its blocks.
  FreezingStage(const RunContext& context, BlockRange wave, BlockRange mine,
                std::vector<std::int64_t> samples, const LearnablesOf& learnables_of)
      : context_(context),
        wave_(wave),
        mine_(mine),
        samples_(std::move(samples)),
        stage_(context.model, mine, &context.recipe, learnables_of, context.compute, context.store,
               context.resident_blocks),
        losses_(unmeasured(context, wave, context.device())),
        writing_(kWritesAhead) {
    if (recomputes()) {
      originals_.emplace(context.model, mine, nullptr, LearnablesOf(), context.compute,
                         context.store, context.resident_blocks);
    }
    for (int block = mine.first; !recomputes() && block < mine.last; ++block) {
      targets_.push_back(context.open({io::Chain::kFullPrecision, BoundaryIndex{block + 1}}));
    }
    if (mine.first == wave.first) {
      inputs_.push_back(context.open(wave_input(wave.first)));
      if (recomputes()) {
        inputs_.push_back(context.open({io::Chain::kFullPrecision, BoundaryIndex{wave.first}}));
      }
    }
    read_ahead();
  }

  void store_outputs(const std::vector<io::Boundary>& boundaries) {
    for (const io::Boundary& boundary : boundaries) {
      shards_.push_back(context_.activations.create(boundary, context_.transport.rank(),
                                                    static_cast<std::int64_t>(samples_.size())));
    }
  }

  [[nodiscard]] int blocks() const { return stage_.size(); }

  [[nodiscard]] std::vector<at::Tensor> source(std::int64_t sample) {
    std::vector<at::Tensor> x;
    for (const auto& input : inputs_) {
      x.push_back(on_device_of(context_, inputs_ahead_->take({input.get(), sample})));
    }
    return x;
  }

  [[nodiscard]] std::vector<at::Tensor> forward(int i, std::vector<at::Tensor> x,
                                                std::int64_t sample) {
    stage_.enter(i);
    x[0] = stage_.forward(i, x[0]);
    at::Tensor target;
    if (recomputes()) {
      originals_->enter(i);
      target = x[1] = originals_->forward(i, x[1]);
    } else {
      target = on_device_of(
          context_, targets_ahead_->take({targets_[static_cast<std::size_t>(i)].get(), sample}));
    }
    measure(losses_[mine_.first - wave_.first + i][sample], x[0], target);
    if (i + 1 == blocks()) write(sample, x);
    return x;
  }

  void seal() {
    writing_.finish();
    for (const auto& shard : shards_) shard->seal();
  }
  /// In host memory, as ranks exchange them.
  [[nodiscard]] at::Tensor losses() const { return losses_.to(at::kCPU); }

 private:
  static constexpr std::size_t kReadsAhead = 4;
  static constexpr std::size_t kWritesAhead = 4;

  /// Inputs come sample by sample, targets in turns: of a turn's samples for one block, then for
  /// the next.
  void read_ahead() {
    if (!inputs_.empty()) {
      inputs_ahead_.emplace(
          [this, input = std::size_t{0}, i = std::size_t{0}]() mutable -> io::PlannedRead {
            if (i == samples_.size()) return {};
            const io::PlannedRead next{inputs_[input].get(), samples_[i]};
            input = (input + 1) % inputs_.size();
            if (input == 0) ++i;
            return next;
          },
          kReadsAhead, place_of_reads(context_));
    }
    if (targets_.empty()) return;
    targets_ahead_.emplace(
        [this, turn = std::size_t{0}, block = std::size_t{0},
         i = std::size_t{0}]() mutable -> io::PlannedRead {
          const std::size_t end =
              std::min(turn + static_cast<std::size_t>(context_.turn()), samples_.size());
          if (i == end) {
            i = turn;
            ++block;
          }
          if (block == targets_.size()) {
            block = 0;
            turn = i = end;
          }
          if (i == samples_.size()) return {};
          return {targets_[block].get(), samples_[i++]};
        },
        kReadsAhead, place_of_reads(context_));
  }

  [[nodiscard]] bool recomputes() const { return context_.targets == Targets::kRecompute; }

  void write(std::int64_t sample, const std::vector<at::Tensor>& x) {
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      writing_.give([shard = shards_[i].get(), sample, activation = on_host(x[i])] {
        shard->write(sample, activation);
      });
    }
  }

  void measure(const at::Tensor& losses, const at::Tensor& output, const at::Tensor& target) const {
    losses[0].copy_(quant::mse_loss(output, target));
    losses[1].copy_(quant::nlc_loss(output, target, nlc_options(context_.recipe)));
  }

  const RunContext& context_;
  BlockRange wave_;
  BlockRange mine_;
  std::vector<std::int64_t> samples_;
  FrozenStage stage_;
  std::optional<FrozenStage> originals_;
  at::Tensor losses_;  // on the device: one copy to the host for all samples
  std::vector<std::unique_ptr<io::BoundaryReader>> targets_;
  std::vector<std::unique_ptr<io::BoundaryReader>> inputs_;
  std::vector<std::unique_ptr<io::ShardWriter>> shards_;
  // Last: they work on the others.
  io::IoThread writing_;
  std::optional<io::ReadAhead> inputs_ahead_;
  std::optional<io::ReadAhead> targets_ahead_;
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
                           .samples = context.samples,
                           .batch = context.recipe.train.batch_size,
                           .turn = context.turn()};
  const Plan plan = plan_forward(shape);
  simulate(plan);
  const bool recomputes = context.targets == Targets::kRecompute;
  std::vector<io::Boundary> outputs = {{io::Chain::kQuantized, BoundaryIndex{blocks.last}}};
  if (recomputes) outputs.push_back({io::Chain::kFullPrecision, BoundaryIndex{blocks.last}});
  if (store_outputs == StoreOutputs::kYes) {
    for (const io::Boundary& output : outputs) {
      if (context.rank() == 0) context.activations.remove(output);
    }
    dist::barrier(context.transport, "old shards removed");
  }

  at::Tensor losses = unmeasured(context, blocks, at::kCPU);
  const auto rank = static_cast<std::size_t>(context.rank());
  std::optional<FreezingStage> stage;
  if (!plan.ranks[rank].empty()) {
    const BlockRange mine =
        split_evenly(blocks, stages)[rank / static_cast<std::size_t>(shape.replicas)];
    stage.emplace(context, blocks, mine, samples_of_replica(shape, context.rank() % shape.replicas),
                  learnables_of);
    if (store_outputs == StoreOutputs::kYes && plan.next[rank] < 0) stage->store_outputs(outputs);
  }
  run_forward(
      context.transport, plan,
      {.samples = recomputes ? 2 : 1,
       .tokens = context.tokens,
       .hidden = context.hidden(),
       .dtype = context.store,
       .device = context.device()},
      {.source = [&](std::int64_t sample) { return stage->source(sample); },
       .blocks = stage ? stage->blocks() : 0,
       .block = [&](int i, std::vector<at::Tensor> x,
                    std::int64_t sample) { return stage->forward(i, std::move(x), sample); }});
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
  if (context.kept != nullptr) context.kept->clear();
  dist::barrier(context.transport, "inputs of the next wave sealed");
}

}  // namespace lrq::pipeline

#include "src/pipeline/freezing.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "dist/collectives.h"
#include "src/base/text.h"
#include "src/pipeline/activation_link.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/wave_learning.h"
#include "src/quant/loss.h"

namespace lrq::pipeline {
namespace {

/// [blocks of the wave, N, 2] float64 on every rank: MSE and NLC of each sample behind each block;
/// NaN where another rank has measured.
at::Tensor unmeasured(const RunContext& context, BlockRange blocks) {
  return at::full({blocks.size(), context.samples, 2}, std::numeric_limits<double>::quiet_NaN(),
                  at::TensorOptions().dtype(at::kDouble).device(at::kCPU));
}

void measure(at::Tensor losses, const recipe::Recipe& recipe, const at::Tensor& output,
             const at::Tensor& target) {
  losses[0].copy_(quant::mse_loss(output, target));
  losses[1].copy_(quant::nlc_loss(output, target, nlc_options(recipe)));
}

void log_losses(const RunContext& context, int wave, BlockRange blocks,
                const std::vector<at::Tensor>& from_ranks) {
  at::Tensor all = unmeasured(context, blocks);
  for (const at::Tensor& losses : from_ranks) {
    all = at::where(all.isnan(), losses, all);  // a measured NaN stays one: every rank has NaN there
  }
  const at::Tensor mean = all.mean({1});
  const at::Tensor median = std::get<0>(all.median(1));
  std::vector<FrozenBlock> frozen;
  for (int i = 0; i < blocks.size(); ++i) {
    frozen.push_back({.block = BlockIndex{blocks.first + i},
                      .mse_mean = mean[i][0].item<double>(),
                      .mse_median = median[i][0].item<double>(),
                      .nlc_mean = mean[i][1].item<double>(),
                      .nlc_median = median[i][1].item<double>()});
  }
  context.log.frozen(wave, frozen);
}

}  // namespace

void freeze_wave(const RunContext& context, int wave, BlockRange blocks, bool next_inputs) {
  const c10::NoGradGuard no_grad;
  const int stages = std::min(context.ranks(), blocks.size());
  const ForwardShape shape{.ranks = context.ranks(),
                           .stages = stages,
                           .replicas = static_cast<int>(std::min<std::int64_t>(
                               context.ranks() / stages, context.samples)),
                           .samples = context.samples};
  const Plan plan = plan_forward(shape);
  simulate(plan);
  context.log.phase("freeze", concat("wave=", wave, " blocks=", blocks.first, "-",
                                     blocks.last - 1));
  const io::Boundary output{io::Chain::kQuantized, BoundaryIndex{blocks.last}};
  if (context.rank() == 0) context.activations.remove(output);
  dist::barrier(context.transport, "old shards removed");

  at::Tensor losses = unmeasured(context, blocks);
  const auto rank = static_cast<std::size_t>(context.rank());
  if (!plan.ranks[rank].empty()) {
    const int stage_index = context.rank() % stages;
    const SampleRange samples = samples_of_replica(shape, context.rank() / stages);
    BlockRange range = partition(
        std::vector<double>(static_cast<std::size_t>(blocks.size()), 1.0),
        stages)[static_cast<std::size_t>(stage_index)];
    range = {range.first + blocks.first, range.last + blocks.first};
    const FrozenStage stage(context.model, range, &context.recipe, &context.states,
                            context.compute, context.store);
    std::vector<std::unique_ptr<io::BoundaryReader>> targets;
    for (int block = range.first; block < range.last; ++block) {
      targets.push_back(context.activations.open(
          {io::Chain::kFullPrecision, BoundaryIndex{block + 1}}, context.samples));
    }
    const MessageShape message{.samples = 1, .tokens = context.tokens, .hidden = context.hidden(),
                               .dtype = context.store, .device = context.device};
    std::optional<InboundLink> inbound;
    std::optional<OutboundLink> outbound;
    std::unique_ptr<io::BoundaryReader> inputs;
    std::unique_ptr<io::ShardWriter> shard;
    if (plan.previous[rank] >= 0) {
      inbound.emplace(context.transport, Rank{plan.previous[rank]}, message,
                      samples.last - samples.first);
    } else {
      inputs = context.activations.open(wave_input(blocks.first), context.samples);
    }
    if (plan.next[rank] >= 0) {
      outbound.emplace(context.transport, Rank{plan.next[rank]}, message);
    } else if (next_inputs) {
      shard = context.activations.create(output, context.transport.rank(),
                                         samples.last - samples.first);
    }
    at::Tensor x;
    for (const Action& action : plan.ranks[rank]) {
      if (action.op == Op::kReceive) x = inbound->take().front();
      if (action.op == Op::kForward) {
        if (inputs) x = inputs->read(action.index).to(context.device);
        for (int i = 0; i < stage.size(); ++i) {
          x = stage.forward(i, x);
          measure(losses[range.first + i - blocks.first][action.index], context.recipe, x,
                  targets[static_cast<std::size_t>(i)]->read(action.index).to(context.device));
        }
        if (shard) shard->write(action.index, x.cpu());
      }
      if (action.op == Op::kSend) outbound->give({x});
    }
    if (outbound) outbound->flush();
    if (shard) shard->seal();
  }
  const auto gathered =
      dist::gather(context.transport, losses, Rank{0}, "losses of frozen blocks");
  if (context.rank() == 0) log_losses(context, wave, blocks, gathered);
  dist::barrier(context.transport, "inputs of the next wave sealed");
}

}  // namespace lrq::pipeline

#include "src/pipeline/site_map_pass.h"

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "dist/collectives.h"
#include "src/base/text.h"
#include "src/models/site_maps.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/sample_share.h"
#include "src/pipeline/wave_learning.h"

namespace lrq::pipeline {
namespace {

bool has_maps(const recipe::Recipe& recipe) { return !block_method(recipe).map.none(); }

models::NamedTensors maps_of(const RunContext& context, BlockIndex block,
                             std::span<const at::Tensor> inputs,
                             const models::TokenShare& share = {}) {
  const auto& family = context.model.family();
  const models::BlockMethod method = block_method(context.recipe);
  const models::NamedTensors weights = context.model.block(block);
  const models::NamedTensors start = models::initial_learnables(
      family, weights,
      models::on_device(context.states.load_statistics(block).tensors, context.device()), method);
  return models::build_site_maps(family, weights, start, method, inputs, context.compute,
                                 {.seed = context.seed, .block = block.value}, share);
}

void save(const RunContext& context, BlockIndex block, const models::NamedTensors& maps) {
  context.states.save_maps(block,
                           {.tensors = on_host(maps),
                            .metadata = {{"format", "lrq-dist maps 1"}, {"block", concat(block)}}});
}

/// Sums over samples run in their order (docs/architecture.md, "What the bits depend on").
at::Tensor mean_of_inputs(const RunContext& context) {
  const SampleReader reader(context, wave_input(0));
  at::Tensor sum = reader.read(0).to(at::kFloat);
  for (std::int64_t sample = 1; sample < context.samples; ++sample) {
    sum += reader.read(sample).to(at::kFloat);
  }
  return (sum / static_cast<double>(context.samples)).to(context.store);
}

}  // namespace

bool maps_from_mean(const recipe::Recipe& recipe) {
  return has_maps(recipe) && recipe.rotation.calib == recipe::RotationCalib::kMean;
}
bool maps_from_tokens(const recipe::Recipe& recipe) {
  return has_maps(recipe) && recipe.rotation.calib == recipe::RotationCalib::kTokens;
}

void build_maps_from_mean(const RunContext& context) {
  const c10::NoGradGuard no_grad;
  const int blocks = context.model.blocks();
  const int stages = std::min(context.ranks(), blocks);
  const Plan plan = plan_forward({.ranks = context.ranks(), .stages = stages, .samples = 1});
  simulate(plan);
  context.log.phase("maps", concat("blocks=", blocks));
  const auto ranges = split_evenly({0, blocks}, stages);
  const auto rank = static_cast<std::size_t>(context.rank());
  const BlockRange mine = rank < ranges.size() ? ranges[rank] : BlockRange{};
  const auto forward = [&](int i, const std::vector<at::Tensor>& x, std::int64_t) {
    const int index = mine.first + i;
    save(context, BlockIndex{index}, maps_of(context, BlockIndex{index}, x));
    const FrozenStage block(
        context.model, {index, index + 1}, &context.recipe,
        start_learnables(context.model.family(), context.states, context.recipe), context.compute,
        context.store);
    return std::vector{block.forward(0, x.front())};
  };
  run_forward(context.transport, plan,
              {.tokens = context.tokens,
               .hidden = context.hidden(),
               .dtype = context.store,
               .device = context.device()},
              {.source = [&](std::int64_t) { return std::vector{mean_of_inputs(context)}; },
               .blocks = mine.size(),
               .block = forward});
  dist::barrier(context.transport, "maps durable");
}

void build_maps_from_tokens(const RunContext& context, BlockIndex block) {
  const c10::NoGradGuard no_grad;
  const std::string there = context.rank() == 0 && context.states.has_maps(block) ? "there" : "";
  if (!dist::broadcast_text(context.transport, there, Rank{0}, "maps of a block").empty()) return;
  share_samples(context, [&](const SampleShare& share) {
    const SampleReader reader(context, wave_input(block.value));
    const quant::IndexRange mine = share.of(context.samples);
    std::vector<at::Tensor> inputs;
    for (std::int64_t i = 0; i < mine.count; ++i) inputs.push_back(reader.read(mine.first + i));
    const models::NamedTensors maps = maps_of(context, block, inputs,
                                              {.first = mine.first * context.tokens,
                                               .all = context.samples * context.tokens,
                                               .sum = [&](const at::Tensor& rows) {
                                                 share.sum(rows);
                                                 share.alive();
                                               }});
    if (context.rank() == 0) save(context, block, maps);
  });
  dist::barrier(context.transport, "maps durable");
}

}  // namespace lrq::pipeline

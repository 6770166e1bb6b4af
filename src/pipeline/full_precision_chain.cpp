#include "src/pipeline/full_precision_chain.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "dist/collectives.h"
#include "io/io_thread.h"
#include "src/base/text.h"
#include "src/models/quant_block.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/run_log.h"
#include "src/quant/observer.h"

namespace lrq::pipeline {
namespace {

// Where linears read; q, k and v after RoPE need no statistics.
constexpr std::array kObservedSites = {models::Site::kQkvIn, models::Site::kOutIn,
                                       models::Site::kMlpIn, models::Site::kDownIn};

io::Boundary target(int index) { return {io::Chain::kFullPrecision, BoundaryIndex{index}}; }

/// One original block with its observers and the shard of its outputs.
struct ChainBlock {
  BlockIndex index;
  std::map<models::Site, quant::ChannelObserver> observers;
  std::unique_ptr<io::ShardWriter> shard;
};

class ChainStage {
 public:
  ChainStage(const RunContext& context, BlockRange range)
      : context_(context),
        originals_(context.model, range, nullptr, LearnablesOf(), context.compute, context.store,
                   context.resident_blocks),
        writing_(static_cast<std::size_t>(range.size()) + 1) {
    for (int index = range.first; index < range.last; ++index) {
      ChainBlock block{
          .index = BlockIndex{index},
          .observers = {},
          // Targets that are made again when they are needed are not stored.
          .shard = context.targets == Targets::kRecompute ? nullptr : create(index + 1)};
      for (const models::Site site : kObservedSites) block.observers[site];
      blocks_.push_back(std::move(block));
    }
    if (range.first == 0) {
      embedding_ = context.model.embedding();
      first_shard_ = create(0);
    }
  }

  [[nodiscard]] at::Tensor embed(const at::Tensor& ids, std::int64_t sample) {
    const at::Tensor x =
        context_.model.family().embed(embedding_, ids).to(context_.store).contiguous();
    write(*first_shard_, sample, x);
    return x;
  }

  [[nodiscard]] int blocks() const { return originals_.size(); }

  /// Through the `i`-th block, whose inputs are observed on the way.
  [[nodiscard]] at::Tensor forward(int i, const at::Tensor& x, std::int64_t sample) {
    ChainBlock& block = blocks_[static_cast<std::size_t>(i)];
    originals_.enter(i);
    const at::Tensor output =
        originals_.forward(i, x, [&block](models::Site site, const at::Tensor& input) {
          const auto found = block.observers.find(site);
          if (found != block.observers.end()) found->second.observe(input);
          return input;
        });
    if (block.shard) write(*block.shard, sample, output);
    return output;
  }

  void seal() {
    writing_.finish();
    if (first_shard_) first_shard_->seal();
    for (ChainBlock& block : blocks_) {
      if (block.shard) block.shard->seal();
      io::TensorFile file;
      for (const auto& [site, observer] : block.observers) {
        const std::string name(models::site_name(site));
        file.tensors.emplace(name + ".absmax", observer.absmax());
        file.tensors.emplace(name + ".shift", observer.shift());
      }
      file.tensors = on_host(file.tensors);
      file.metadata = {{"format", "lrq-dist statistics 1"},
                       {"block", concat(block.index)},
                       {"samples", concat(context_.samples)}};
      context_.states.save_statistics(block.index, file);
    }
  }

 private:
  void write(io::ShardWriter& shard, std::int64_t sample, const at::Tensor& x) {
    writing_.give([&shard, sample, activation = on_host(x)] { shard.write(sample, activation); });
  }

  std::unique_ptr<io::ShardWriter> create(int boundary) {
    return context_.activations.create(target(boundary), context_.transport.rank(),
                                       context_.samples);
  }

  const RunContext& context_;
  FrozenStage originals_;
  std::vector<ChainBlock> blocks_;
  models::NamedTensors embedding_;
  std::unique_ptr<io::ShardWriter> first_shard_;
  io::IoThread writing_;  // last: it writes to the shards
};

}  // namespace

void run_full_precision_chain(const RunContext& context, const at::Tensor& tokens) {
  const c10::NoGradGuard no_grad;
  const int blocks = context.model.blocks();
  const int stages = std::min(context.ranks(), blocks);
  const auto ranges = split_evenly({0, blocks}, stages);
  const Plan plan = plan_forward({.ranks = context.ranks(),
                                  .stages = stages,
                                  .samples = context.samples,
                                  .turn = context.turn()});
  simulate(plan);
  context.log.phase("chain", concat("samples=", context.samples, " blocks=", blocks));

  if (context.rank() == 0) {
    // Shards of an earlier attempt may have been cut over other ranks.
    const int made = context.targets == Targets::kRecompute ? 0 : blocks;
    for (int boundary = 0; boundary <= made; ++boundary) {
      context.activations.remove(target(boundary));
    }
  }
  dist::barrier(context.transport, "old shards removed");
  std::optional<ChainStage> stage;
  if (context.rank() < stages) {
    stage.emplace(context, ranges[static_cast<std::size_t>(context.rank())]);
  }
  run_forward(context.transport, plan,
              {.tokens = context.tokens,
               .hidden = context.hidden(),
               .dtype = context.store,
               .device = context.device()},
              {.source =
                   [&](std::int64_t sample) {
                     return std::vector{stage->embed(
                         tokens[sample].unsqueeze(0).to(context.device(), at::kLong), sample)};
                   },
               .blocks = stage ? stage->blocks() : 0,
               .block =
                   [&](int i, const std::vector<at::Tensor>& x, std::int64_t sample) {
                     return std::vector{stage->forward(i, x.front(), sample)};
                   }});
  if (stage) stage->seal();
  dist::barrier(context.transport, "full-precision chain sealed");
}

bool full_precision_chain_complete(const RunContext& context, BlockRange needed,
                                   const std::function<void()>& alive) {
  for (int block = 0; block < context.model.blocks(); ++block) {
    if (!context.states.has_statistics(BlockIndex{block})) return false;
  }
  for (int boundary = needed.first; boundary < needed.last; ++boundary) {
    alive();
    if (!context.activations.complete(target(boundary), context.samples)) return false;
  }
  return true;
}

}  // namespace lrq::pipeline

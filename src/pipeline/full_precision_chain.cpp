#include "src/pipeline/full_precision_chain.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "dist/collectives.h"
#include "src/base/text.h"
#include "src/models/quant_block.h"
#include "src/pipeline/forward_pass.h"
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
  models::EffectiveBlock block;
  std::map<models::Site, quant::ChannelObserver> observers;
  std::unique_ptr<io::ShardWriter> shard;
};

class ChainStage {
 public:
  ChainStage(const RunContext& context, BlockRange range) : context_(context) {
    for (int index = range.first; index < range.last; ++index) {
      ChainBlock block{
          .index = BlockIndex{index},
          .block = models::plain_block(context.model.family(),
                                       context.model.block(BlockIndex{index}), context.compute),
          .observers = {},
          .shard = create(index + 1)};
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
    write_sample(*first_shard_, sample, x);
    return x;
  }

  [[nodiscard]] at::Tensor forward(at::Tensor x, std::int64_t sample) {
    for (ChainBlock& block : blocks_) {
      const auto observe = [&block](models::Site site, const at::Tensor& input) {
        const auto found = block.observers.find(site);
        if (found != block.observers.end()) found->second.observe(input);
        return input;
      };
      x = context_.model.family().forward(block.block, x, observe).to(context_.store);
      write_sample(*block.shard, sample, x);
    }
    return x;
  }

  void seal() {
    if (first_shard_) first_shard_->seal();
    for (ChainBlock& block : blocks_) {
      block.shard->seal();
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
  std::unique_ptr<io::ShardWriter> create(int boundary) {
    return context_.activations.create(target(boundary), context_.transport.rank(),
                                       context_.samples);
  }

  const RunContext& context_;
  std::vector<ChainBlock> blocks_;
  models::NamedTensors embedding_;
  std::unique_ptr<io::ShardWriter> first_shard_;
};

}  // namespace

void run_full_precision_chain(const RunContext& context, const at::Tensor& tokens) {
  const c10::NoGradGuard no_grad;
  const int blocks = context.model.blocks();
  const int stages = std::min(context.ranks(), blocks);
  const auto ranges = partition(std::vector<double>(static_cast<std::size_t>(blocks), 1.0), stages);
  const Plan plan =
      plan_forward({.ranks = context.ranks(), .stages = stages, .samples = context.samples});
  simulate(plan);
  context.log.phase("chain", concat("samples=", context.samples, " blocks=", blocks));

  if (context.rank() == 0) {
    // Shards of an earlier attempt may have been cut over other ranks.
    for (int boundary = 0; boundary <= blocks; ++boundary) {
      context.activations.remove(target(boundary));
    }
  }
  dist::barrier(context.transport, "old shards removed");
  ChainStage stage(context, ranges[static_cast<std::size_t>(context.rank())]);
  run_forward(context.transport, plan,
              {.tokens = context.tokens,
               .hidden = context.hidden(),
               .dtype = context.store,
               .device = context.device()},
              {.source =
                   [&](std::int64_t sample) {
                     return stage.embed(tokens[sample].unsqueeze(0).to(context.device(), at::kLong),
                                        sample);
                   },
               .blocks = [&](const at::Tensor& x,
                             std::int64_t sample) { return stage.forward(x, sample); }});
  stage.seal();
  dist::barrier(context.transport, "full-precision chain sealed");
}

bool full_precision_chain_complete(const RunContext& context, const std::function<void()>& alive) {
  for (int block = 0; block < context.model.blocks(); ++block) {
    if (!context.states.has_statistics(BlockIndex{block})) return false;
  }
  for (int boundary = 0; boundary <= context.model.blocks(); ++boundary) {
    alive();
    if (!context.activations.complete(target(boundary), context.samples)) return false;
  }
  return true;
}

}  // namespace lrq::pipeline

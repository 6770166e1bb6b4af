#include "src/pipeline/wave_learning.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/ATen.h>

#include "dist/collectives.h"
#include "src/base/log.h"
#include "src/base/text.h"
#include "src/pipeline/activation_link.h"
#include "src/pipeline/block_state.h"
#include "src/pipeline/block_trainer.h"
#include "src/pipeline/cluster_calibration.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/gptq_rounding.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/idle_ranks.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/schedules/schedules.h"
#include "src/pipeline/site_map_pass.h"
#include "src/pipeline/stop_word.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::pipeline {
namespace {

/// One block of a stage while it learns.
struct LearningBlock {
  BlockIndex index;
  std::unique_ptr<BlockTrainer> trainer;
  std::optional<SampleReader> targets;
  std::optional<SampleReader> inputs;  // first block of a wave, or every independent one
  double seconds = 0.0;
};

/// What a report says of each block, in this order, as float64.
constexpr std::int64_t kReportFields = 7;

class LearningStage {
 public:
  LearningStage(const RunContext& context, const WaveTask& task, const LearnShape& shape,
                const Plan& plan, const std::vector<BlockRange>& ranges)
      : context_(context),
        task_(task),
        shape_(shape),
        actions_(plan.ranks[static_cast<std::size_t>(context.rank())]),
        ranges_(ranges),
        rank_(context.rank()),
        replica_(rank_ % shape.replicas),
        stop_(context.transport, shape.replicas, task.stop_asked) {
    const auto rank = static_cast<std::size_t>(rank_);
    const std::size_t stage = rank / static_cast<std::size_t>(shape.replicas);
    if (stage >= ranges.size()) return;
    for (int other = 0; other < shape.replicas; ++other) {
      group_.push_back(Rank{rank_ - replica_ + other});
    }
    for (int index = ranges[stage].first; index < ranges[stage].last; ++index) {
      open(BlockIndex{index});
    }
    const MessageShape message{.samples = plan.word_only ? 0 : samples_per_replica(),
                               .tokens = context.tokens,
                               .hidden = context.hidden(),
                               .dtype = context.store,
                               .device = context.device(),
                               .counted = true};
    if (plan.previous[rank] >= 0) {
      inbound_.emplace(context.transport, Rank{plan.previous[rank]}, message,
                       task.steps - task.first_step);
    }
    if (plan.next[rank] >= 0) outbound_.emplace(context.transport, Rank{plan.next[rank]}, message);
  }

  /// Returns the step count reached.
  std::int64_t run() {
    if (group_.empty()) {
      wait_as_idle_rank(context_.transport);
      return shape_.steps;
    }
    IdleRanks idle(context_.transport, shape_.stages * shape_.replicas);
    std::size_t next = 0;
    while (next < actions_.size()) {  // stop_after() changes the rest
      const Action action = actions_[next++];
      switch (action.op) {
        case Op::kReceive:
          passing_ = inbound_->take();
          stop_after(task_.first_step + inbound_->messages());
          break;
        case Op::kTrain:
          if (!inbound_) stop_after(stop_.steps_before(action.index, shape_.steps));
          train(action.index);
          break;
        case Op::kSend:
          if (!inbound_) stop_after(stop_.steps_before(action.index, shape_.steps));
          outbound_->give(passing_, shape_.steps - task_.first_step);
          break;
        case Op::kCut:
          cut(action.index);
          break;
        case Op::kReport:
          report(action.index);
          break;
        case Op::kCollect:
          collect(action.index);
          break;
        case Op::kForward:
          break;
      }
      if (rank_ == 0) idle.beat();
    }
    if (outbound_) outbound_->flush();
    stop_.flush();
    for (auto& pending : reports_in_flight_) pending->wait();
    if (!shape_.cut_at_end && replica_ == 0) save_blocks(idle);
    if (rank_ == 0) idle.release();
    return shape_.steps;
  }

 private:
  void save_blocks(IdleRanks& idle) {
    for (const LearningBlock& block : blocks_) {
      // Candidates first: a finished block means that they are there.
      int epoch = 0;
      for (const auto& candidate : block.trainer->learnables_by_epoch()) {
        context_.states.save_candidate(task_.wave, ++epoch, block.index,
                                       finished_block(block.index, context_.recipe, candidate));
      }
      models::NamedTensors learned = block.trainer->learnables();
      add_calibrated(block.index, learned);
      context_.states.save_block(block.index,
                                 finished_block(block.index, context_.recipe, learned));
      if (rank_ == 0) idle.beat();  // rounding a block takes a while
    }
  }

  /// Leave the wave after `steps` steps, with a cut there, if it does not end then anyway.
  void stop_after(std::int64_t steps) {
    if (steps == shape_.steps) return;
    shape_.steps = steps;
    shape_.cut_at_end = true;
    // What has been done so far is the beginning of the shorter plan too.
    const Plan plan = plan_learning(schedule_name(context_.recipe.train.schedule), shape_);
    simulate(plan);
    if (rank_ == 0) {
      log_event(LogLevel::kInfo, "stop", concat("wave=", task_.wave, " after_step=", steps));
    }
    actions_ = plan.ranks[static_cast<std::size_t>(rank_)];
  }

  void open(BlockIndex index) {
    const auto& family = context_.model.family();
    LearningBlock block{.index = index, .trainer = {}, .targets = {}, .inputs = {}};
    models::NamedTensors weights = context_.model.block(index);
    const TrainSettings settings{
        .recipe = context_.recipe,
        .compute = context_.compute,
        .store = context_.store,
        .steps = task_.steps,
        .replicas = {.count = shape_.replicas, .sum = [this](const at::Tensor& t) {
                       dist::tree_sum(context_.transport, t, group_, "replicas");
                     }}};
    if (maps_from_tokens(context_.recipe)) build_maps_from_tokens(context_, index);
    const models::NamedTensors start =
        start_learnables(family, context_.states, context_.recipe)(index, weights);
    block.trainer = std::make_unique<BlockTrainer>(family, std::move(weights), start, settings);
    if (task_.first_step > 0) {
      block.trainer->restore(
          context_.states.load_snapshot({task_.wave, task_.first_step}, index).tensors);
    }
    if (task_.steps > task_.first_step) {
      block.targets.emplace(
          context_, io::Boundary{io::Chain::kFullPrecision, BoundaryIndex{index.value + 1}});
      if (independent() || index.value == task_.blocks.first) {
        block.inputs.emplace(context_, independent() ? io::Boundary{io::Chain::kFullPrecision,
                                                                    BoundaryIndex{index.value}}
                                                     : wave_input(task_.blocks.first));
      }
    }
    blocks_.push_back(std::move(block));
  }

  [[nodiscard]] bool independent() const {
    return context_.recipe.train.schedule == recipe::Schedule::kIndependent;
  }

  /// Clusters, and other codes for the weights, of a block whose learnables are final; it is alone
  /// in its wave, or independent of the others.
  void add_calibrated(BlockIndex index, models::NamedTensors& learned) const {
    const recipe::Recipe& recipe = context_.recipe;
    if (!has_clusters(recipe) && !rounds_by_gptq(recipe)) return;
    const SampleReader reader(context_, independent() ? io::Boundary{io::Chain::kFullPrecision,
                                                                     BoundaryIndex{index.value}}
                                                      : wave_input(index.value));
    const models::NamedTensors weights = context_.model.block(index);
    const BlockSamples block{.family = context_.model.family(),
                             .weights = weights,
                             .recipe = recipe,
                             .samples = context_.samples,
                             .read = [&](std::int64_t sample) { return reader.read(sample); },
                             .compute = context_.compute};
    if (has_clusters(recipe)) {
      learned.merge(
          calibrated_clusters(block, learned, {.seed = context_.seed, .block = index.value}));
    }
    if (rounds_by_gptq(recipe)) learned.merge(gptq_codes(block, learned));
  }

  [[nodiscard]] std::int64_t samples_per_replica() const {
    return context_.recipe.train.batch_size / shape_.replicas;
  }

  /// This replica's part of a micro-batch: consecutive samples, which are one subtree of its tree.
  [[nodiscard]] std::vector<at::Tensor> read(const SampleReader& reader, std::int64_t step) const {
    const std::int64_t first = step % context_.micro_batches() * context_.recipe.train.batch_size +
                               replica_ * samples_per_replica();
    std::vector<at::Tensor> samples;
    for (std::int64_t i = 0; i < samples_per_replica(); ++i) {
      samples.push_back(reader.read(first + i));
    }
    return samples;
  }

  void train(std::int64_t step) {
    for (LearningBlock& block : blocks_) {
      const Stopwatch watch;
      const std::vector<at::Tensor> inputs =
          block.inputs ? read(*block.inputs, step) : std::move(passing_);
      const std::vector<at::Tensor> targets = read(*block.targets, step);
      const bool feeds_another = context_.recipe.train.schedule == recipe::Schedule::kWaves &&
                                 block.index.value + 1 < task_.blocks.last;
      passing_ = block.trainer->step(
          inputs, targets, feeds_another ? BlockTrainer::Emit::kYes : BlockTrainer::Emit::kNo);
      block.seconds += watch.seconds();
    }
    // Before a cut: what end_epoch() changes belongs to the state after this step.
    if (!reports_after(shape_, step)) return;
    at::Tensor report = make_report(step);  // on every replica, as it ends the epoch
    if (replica_ == 0) own_reports_.push_back(std::move(report));
  }

  void cut(std::int64_t step) {
    const io::SnapshotKey key{task_.wave, step + 1};
    for (const LearningBlock& block : blocks_) {
      context_.states.save_snapshot(key, block.index,
                                    snapshot_of(block.index, key, block.trainer->state()));
    }
  }

  [[nodiscard]] bool ends_epoch(std::int64_t step) const {
    return (step + 1) % context_.micro_batches() == 0;
  }

  /// [blocks + 1, kReportFields]: a row a block, and a last one with the seconds waited so far.
  [[nodiscard]] at::Tensor make_report(std::int64_t step) {
    at::Tensor report = empty_report(blocks_.size());
    double* row = report.data_ptr<double>();
    for (LearningBlock& block : blocks_) {
      if (ends_epoch(step)) {
        const LossSummary losses = block.trainer->end_epoch(block.index);
        const std::array<double, kReportFields> values = {losses.loss,
                                                          losses.mse,
                                                          losses.nlc,
                                                          static_cast<double>(losses.steps),
                                                          static_cast<double>(losses.masked),
                                                          losses.stopped ? 1.0 : 0.0,
                                                          block.seconds};
        std::copy(values.begin(), values.end(), row);
        block.seconds = 0.0;
      }
      row += kReportFields;
    }
    row[0] = std::chrono::duration<double>(context_.transport.waited()).count();
    return report;
  }

  static at::Tensor empty_report(std::size_t blocks) {
    return at::zeros({static_cast<std::int64_t>(blocks) + 1, kReportFields},
                     at::TensorOptions().dtype(at::kDouble).device(at::kCPU));
  }

  void report(std::int64_t) {
    reports_in_flight_.push_back(context_.transport.send(own_reports_.front(), Rank{0}, "report"));
    own_reports_.pop_front();
  }

  void collect(std::int64_t step) {
    std::vector<BlockEpoch> epochs;
    std::vector<double> waited;
    for (std::size_t stage = 0; stage < ranges_.size(); ++stage) {
      at::Tensor report;
      if (stage == 0) {
        report = own_reports_.front();
        own_reports_.pop_front();
      } else {
        report = empty_report(static_cast<std::size_t>(ranges_[stage].size()));
        const Rank leader{static_cast<int>(stage) * shape_.replicas};
        context_.transport.recv(report, leader, "report")->wait();
      }
      const double* row = report.const_data_ptr<double>();
      for (int block = ranges_[stage].first; block < ranges_[stage].last; ++block) {
        const LossSummary losses{.loss = row[0],
                                 .mse = row[1],
                                 .nlc = row[2],
                                 .steps = static_cast<std::int64_t>(row[3]),
                                 .masked = static_cast<std::int64_t>(row[4]),
                                 .stopped = row[5] != 0.0};
        epochs.push_back({.block = BlockIndex{block}, .losses = losses, .seconds = row[6]});
        row += kReportFields;
      }
      waited.push_back(row[0]);
    }
    const std::int64_t steps = context_.micro_batches();
    if (ends_epoch(step)) {
      const std::int64_t done = std::min(steps, step + 1 - task_.first_step);
      context_.log.epoch(task_.wave, (step + 1) / steps, task_.steps / steps, epochs,
                         done * static_cast<std::int64_t>(epochs.size()));
    }
    if (cuts_after(shape_, step)) task_.name_cut({task_.wave, step + 1});
    if (step + 1 == task_.steps) context_.log.waited(task_.wave, waited, watch_.seconds());
  }

  const RunContext& context_;
  const WaveTask& task_;
  LearnShape shape_;
  std::vector<Action> actions_;
  const std::vector<BlockRange>& ranges_;
  int rank_;
  int replica_;
  std::vector<Rank> group_;  // the replicas of this rank's stage; empty without a stage
  Stopwatch watch_;
  std::vector<LearningBlock> blocks_;
  std::optional<InboundLink> inbound_;
  std::optional<OutboundLink> outbound_;
  std::vector<at::Tensor> passing_;
  std::deque<at::Tensor> own_reports_;  // until their kReport or kCollect
  std::vector<std::unique_ptr<dist::Pending>> reports_in_flight_;
  StopWord stop_;
};

}  // namespace

io::Boundary wave_input(int first) {
  // Nothing is quantized before the first block, so both chains begin with the same tensors.
  return {first == 0 ? io::Chain::kFullPrecision : io::Chain::kQuantized, BoundaryIndex{first}};
}

std::int64_t learn_wave(const RunContext& context, const WaveTask& task) {
  const auto [stages, replicas] =
      wave_layout(context.recipe, context.ranks(), task.blocks.size(), task.replicas);
  auto ranges =
      partition(std::vector<double>(static_cast<std::size_t>(task.blocks.size()), 1.0), stages);
  for (BlockRange& range : ranges) {
    range.first += task.blocks.first;
    range.last += task.blocks.first;
  }
  const LearnShape shape{.ranks = context.ranks(),
                         .stages = stages,
                         .replicas = replicas,
                         .first_step = task.first_step,
                         .steps = task.steps,
                         .report_every = context.micro_batches(),
                         .cut_every = task.cut_every};
  const Plan plan = plan_learning(schedule_name(context.recipe.train.schedule), shape);
  simulate(plan);
  context.log.phase("wave", concat("wave=", task.wave, " blocks=", task.blocks.first, "-",
                                   task.blocks.last - 1, " stages=", stages, " replicas=", replicas,
                                   " steps=", task.steps - task.first_step));
  const std::int64_t reached = LearningStage(context, task, shape, plan, ranges).run();
  dist::barrier(context.transport, "block files durable");
  return reached;
}

}  // namespace lrq::pipeline

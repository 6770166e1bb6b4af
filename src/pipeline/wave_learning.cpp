#include "src/pipeline/wave_learning.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "dist/collectives.h"
#include "src/base/log.h"
#include "src/base/text.h"
#include "src/pipeline/activation_link.h"
#include "src/pipeline/block_state.h"
#include "src/pipeline/block_trainer.h"
#include "src/pipeline/frozen_stage.h"
#include "src/pipeline/host_memory.h"
#include "src/pipeline/idle_ranks.h"
#include "src/pipeline/passing.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/sample_calibration.h"
#include "src/pipeline/schedules/schedules.h"
#include "src/pipeline/site_map_pass.h"
#include "src/pipeline/stage_clock.h"
#include "src/pipeline/stage_samples.h"
#include "src/pipeline/stop_word.h"
#include "src/pipeline/wave_layout.h"
#include "src/pipeline/wave_reports.h"

namespace lrq::pipeline {
namespace {

/// One block of a stage while it learns.
struct LearningBlock {
  BlockIndex index;
  std::unique_ptr<BlockTrainer> trainer;
  double seconds = 0.0;
};

class LearningStage {
 public:
  LearningStage(const RunContext& context, const WaveTask& task, const LearnShape& shape,
                const Plan& plan, const std::vector<BlockRange>& ranges)
      : context_(context),
        task_(task),
        shape_(shape),
        actions_(plan.ranks[static_cast<std::size_t>(context.rank())]),
        reports_(context.transport, ranges, shape.replicas),
        rank_(context.rank()),
        replica_(rank_ % shape.replicas),
        resident_(0, 0),
        word_only_(plan.word_only),
        turn_begin_(task.first_step),
        stop_(context.transport, shape.replicas, task.stop_asked) {
    const auto rank = static_cast<std::size_t>(rank_);
    const std::size_t stage = rank / static_cast<std::size_t>(shape.replicas);
    if (stage >= ranges.size()) return;
    resident_ = ResidentBlocks(ranges[stage].size(), context.resident_blocks);
    for (int other = 0; other < shape.replicas; ++other) {
      group_.push_back(Rank{rank_ - replica_ + other});
    }
    for (int index = ranges[stage].first; index < ranges[stage].last; ++index) {
      open(BlockIndex{index});
    }
    if (task.steps > task.first_step) open_samples();
    if (recomputes()) {
      originals_.emplace(context.model, ranges[stage], nullptr, LearnablesOf(), context.compute,
                         context.store, context.resident_blocks);
    }
    const std::int64_t tensors_each = recomputes() ? 2 : 1;
    const MessageShape message{.samples = plan.word_only ? 0 : tensors_each * samples_per_replica(),
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
    clock_.emplace(context_.transport);
    std::size_t next = 0;
    while (next < actions_.size()) {  // stop_after() changes the rest
      const Action action = actions_[next++];
      switch (action.op) {
        case Op::kReceive:
          passing_.push_back(split(inbound_->take(), recomputes()));
          stop_after(task_.first_step + inbound_->messages());
          break;
        case Op::kTrain:
          look_for_stop(action.index);
          train(action.index, idle);
          break;
        case Op::kSend:
          look_for_stop(action.index);
          send();
          break;
        case Op::kCut:
          clock_->cut([&] { cut(action.index); });
          break;
        case Op::kReport:
          reports_.send();
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
    reports_.flush();
    if (!shape_.cut_at_end && replica_ == 0) save_blocks(idle);
    if (rank_ == 0) idle.release();
    return shape_.steps;
  }

  /// What this rank is to have finished by samples, in the order of its blocks; nothing where the
  /// wave was left before its end, nor on replicas.
  [[nodiscard]] std::vector<models::NamedTensors> take_learned() { return std::move(learned_); }

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
      if (finishes_by_samples(context_.recipe)) {
        learned_.push_back(std::move(learned));
        continue;
      }
      context_.states.save_block(block.index,
                                 finished_block(block.index, context_.recipe, learned));
      if (rank_ == 0) idle.beat();
    }
  }

  /// The first stage looks before it begins a step; in a turn it sends steps that are long done.
  void look_for_stop(std::int64_t step) {
    newest_step_ = std::max(newest_step_, step);
    if (!inbound_) stop_after(stop_.steps_before(newest_step_, shape_.steps));
  }

  void send() {
    const std::int64_t messages = shape_.steps - task_.first_step;
    if (word_only_) return outbound_->give({}, messages);
    outbound_->give(joined(passing_.front(), recomputes()), messages);
    passing_.pop_front();
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
    if (samples_ && shape_.turn > 1) samples_->restart(turn_begin_);
  }

  void open(BlockIndex index) {
    const auto& family = context_.model.family();
    LearningBlock block{.index = index, .trainer = {}};
    models::NamedTensors weights = context_.model.block(index);
    const TrainSettings settings{
        .recipe = context_.recipe,
        .compute = context_.compute,
        .store = context_.store,
        .steps = task_.steps,
        .replicas = {.count = shape_.replicas, .sum = [this](const at::Tensor& t) {
                       dist::tree_sum(context_.transport, t, group_, "replicas");
                     }}};
    const models::NamedTensors start =
        start_learnables(family, context_.states, context_.recipe)(index, weights);
    block.trainer = std::make_unique<BlockTrainer>(family, std::move(weights), start, settings);
    if (task_.first_step > 0) {
      block.trainer->restore(
          context_.states.load_snapshot({task_.wave, task_.first_step}, index).tensors);
    }
    if (context_.resident_blocks > 0) block.trainer->drop_weights();
    blocks_.push_back(std::move(block));
  }

  /// Open what the steps read.  The wave's first block begins a recomputed chain of targets.
  void open_samples() {
    std::vector<StageSamples::Readers> readers;
    const auto open = [this](const io::Boundary& boundary) {
      return context_.open(boundary, Keep::kYes);
    };
    for (const LearningBlock& block : blocks_) {
      const bool first = block.index.value == task_.blocks.first;
      const io::Boundary before{io::Chain::kFullPrecision, BoundaryIndex{block.index.value}};
      const io::Boundary behind{io::Chain::kFullPrecision, BoundaryIndex{block.index.value + 1}};
      StageSamples::Readers& of_block = readers.emplace_back();
      if (independent()) of_block.inputs = open(before);
      if (!independent() && first) of_block.inputs = open(wave_input(task_.blocks.first));
      if (!recomputes()) of_block.targets = open(behind);
      if (recomputes() && first) of_block.targets = open(before);  // originals make them of these
    }
    samples_.emplace(
        std::move(readers),
        StageSamples::Order{
            .first_step = task_.first_step,
            .steps = task_.steps,
            .micro_batches = context_.micro_batches(),
            .batch_size = context_.recipe.train.batch_size,
            .offset = replica_ * samples_per_replica(),
            .count = samples_per_replica(),
            .turn_end = [this](std::int64_t first) { return turn_end(shape_, first); }},
        place_of_reads(context_));
  }

  [[nodiscard]] bool recomputes() const { return context_.targets == Targets::kRecompute; }

  [[nodiscard]] bool independent() const {
    return context_.recipe.train.schedule == recipe::Schedule::kIndependent;
  }

  [[nodiscard]] std::int64_t samples_per_replica() const {
    return context_.recipe.train.batch_size / shape_.replicas;
  }

  /// Every block does all steps of a turn before the next block begins, once the turn's last step
  /// has its inputs.
  void train(std::int64_t step, IdleRanks& idle) {
    if (!inbound_) passing_.emplace_back();
    if (step + 1 < turn_end(shape_, turn_begin_)) return;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      blocks_[i].seconds += clock_->step([&] { enter(static_cast<int>(i)); });
      for (std::int64_t done = turn_begin_; done <= step; ++done) {
        Passing& passing = passing_[static_cast<std::size_t>(done - turn_begin_)];
        blocks_[i].seconds += clock_->step([&] { train(i, done, passing); });
        if (rank_ == 0) idle.beat();
      }
    }
    turn_begin_ = step + 1;
    if (word_only_ || !outbound_) passing_.clear();
    finish_step(step);
  }

  /// Have the weights of the stage's `i`-th block in memory.
  void enter(int i) {
    if (context_.resident_blocks == 0) return;  // all are, from the beginning
    const auto at = [this](int of_stage) { return blocks_.begin() + of_stage; };
    resident_.enter(
        i, [&](int gone) { at(gone)->trainer->drop_weights(); },
        [&](int next) { at(next)->trainer->hold_weights(context_.model.block(at(next)->index)); });
    if (originals_) originals_->enter(i);
  }

  /// What has been read, on the run's device.
  [[nodiscard]] std::vector<at::Tensor> here(std::vector<at::Tensor> samples) const {
    for (at::Tensor& sample : samples) sample = on_device_of(context_, sample);
    return samples;
  }

  /// One step of one block; passing: behind the block before, then behind this one.
  void train(std::size_t i, std::int64_t step, Passing& passing) {
    LearningBlock& block = blocks_[i];
    const bool first = block.index.value == task_.blocks.first;
    const std::vector<at::Tensor> inputs =
        first || independent() ? here(samples_->inputs(i, step)) : std::move(passing.outputs);
    if (!recomputes() || first) passing.targets = here(samples_->targets(i, step));
    for (at::Tensor& x : passing.targets) {
      if (recomputes()) x = originals_->forward(static_cast<int>(i), x);
    }
    const bool feeds_another = context_.recipe.train.schedule == recipe::Schedule::kWaves &&
                               block.index.value + 1 < task_.blocks.last;
    passing.outputs =
        block.trainer->step(inputs, passing.targets,
                            feeds_another ? BlockTrainer::Emit::kYes : BlockTrainer::Emit::kNo);
  }

  void finish_step(std::int64_t step) {
    // Before a cut: what end_epoch() changes belongs to the state after this step.
    if (!reports_after(shape_, step)) return;
    std::vector<BlockEpoch> report;
    for (LearningBlock& block : blocks_) {  // of every replica: this ends the epoch of its trainer
      BlockEpoch& entry = report.emplace_back(BlockEpoch{.block = block.index, .losses = {}});
      if (!ends_epoch(step)) continue;
      entry.losses = block.trainer->end_epoch(block.index);
      entry.seconds = std::exchange(block.seconds, 0.0);
    }
    if (replica_ == 0) reports_.add(report, clock_->times());
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

  void collect(std::int64_t step) {
    auto [blocks, times] = reports_.collect();
    const std::int64_t steps = context_.micro_batches();
    if (ends_epoch(step)) {
      context_.log.epoch(task_.wave, (step + 1) / steps, task_.steps / steps, blocks,
                         std::min(steps, step + 1 - task_.first_step));
    }
    if (cuts_after(shape_, step)) {
      clock_->cut([&] { task_.name_cut({task_.wave, step + 1}); });
    }
    if (step + 1 < shape_.steps) return;
    times.front() = clock_->times();  // rank 0 has waited for the others' last reports since
    context_.log.waited(task_.wave, shape_, times);
  }

  const RunContext& context_;
  const WaveTask& task_;
  LearnShape shape_;
  std::vector<Action> actions_;
  WaveReports reports_;
  int rank_;
  int replica_;
  std::vector<Rank> group_;          // the replicas of this rank's stage; empty without a stage
  std::optional<StageClock> clock_;  // from the first action
  std::vector<LearningBlock> blocks_;
  std::vector<models::NamedTensors> learned_;
  std::optional<InboundLink> inbound_;
  std::optional<OutboundLink> outbound_;
  ResidentBlocks resident_;
  std::optional<FrozenStage> originals_;  // make the targets, with Targets::kRecompute
  bool word_only_;
  std::deque<Passing> passing_;  // of each step of a turn
  std::int64_t turn_begin_;      // the first step that is not done
  std::int64_t newest_step_ = -1;
  StopWord stop_;
  std::optional<StageSamples> samples_;  // late: it asks for the ends of turns
};

}  // namespace

io::Boundary wave_input(int first) {
  // Nothing is quantized before the first block, so both chains begin with the same tensors.
  return {first == 0 ? io::Chain::kFullPrecision : io::Chain::kQuantized, BoundaryIndex{first}};
}

std::int64_t learn_wave(const RunContext& context, const WaveTask& task) {
  const auto [stages, replicas] =
      wave_layout(context.recipe, context.ranks(), task.blocks.size(), task.replicas);
  const auto ranges = split_evenly(task.blocks, stages);
  const LearnShape shape{.ranks = context.ranks(),
                         .stages = stages,
                         .replicas = replicas,
                         .first_step = task.first_step,
                         .steps = task.steps,
                         .report_every = context.micro_batches(),
                         .cut_every = task.cut_every,
                         .turn = context.turn()};
  const Plan plan = plan_learning(schedule_name(context.recipe.train.schedule), shape);
  simulate(plan);
  context.log.phase("wave", concat("wave=", task.wave, " blocks=", task.blocks.first, "-",
                                   task.blocks.last - 1, " stages=", stages, " replicas=", replicas,
                                   " steps=", task.steps - task.first_step));
  if (maps_from_tokens(context.recipe)) {
    build_maps_from_tokens(context, BlockIndex{task.blocks.first});
  }
  std::optional<LearningStage> stage(std::in_place, context, task, shape, plan, ranges);
  const std::int64_t reached = stage->run();
  const auto learned = stage->take_learned();
  stage.reset();  // its memory
  if (finishes_by_samples(context.recipe)) finish_by_samples(context, ranges, replicas, learned);
  dist::barrier(context.transport, "block files durable");
  return reached;
}

}  // namespace lrq::pipeline

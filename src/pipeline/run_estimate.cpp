#include "src/pipeline/run_estimate.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/schedules/schedules.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::pipeline {
namespace {

constexpr double kStateTensors = 4.0;  // values, two moments, the best epoch: BlockTrainer::state
constexpr double kSnapshotsOnDisk = 2.0;  // the newest named one and the one in the making

void check(const BlockWork& work, const RunShape& shape) {
  const std::int64_t batch = work.recipe.train.batch_size;
  check_replicas(work.recipe, shape.ranks, shape.replicas);
  check_targets(work.recipe, shape.targets);
  if (shape.slow_rank >= shape.ranks) {
    throw UsageError({.what = concat("there is no rank ", shape.slow_rank, " among ", shape.ranks),
                      .where = "option --slow-rank",
                      .fix = concat("use 0 to ", shape.ranks - 1, ", or more --ranks")});
  }
  if (batch > shape.samples) {
    throw UsageError(
        {.what = concat("a step takes ", batch, " samples and there are ", shape.samples),
         .where = "options --batch-size and --nsamples",
         .fix = "lower --batch-size, or raise --nsamples"});
  }
}

class Estimator {
 public:
  Estimator(const BlockWork& work, const ModelFigures& model, const Machine& machine,
            const RunShape& shape)
      : work_(work),
        model_(model),
        machine_(machine),
        shape_(shape),
        waves_(waves_of(model.blocks, work.recipe.train.wave)),
        batch_(work.recipe.train.batch_size) {}

  RunEstimate run() {
    const bool learns = pipeline::learns(work_.recipe);
    steps_ = learns ? work_.recipe.train.epochs * (shape_.samples / batch_) : 0;
    PhaseEstimate learn{.name = "learn"};
    PhaseEstimate freeze{.name = "freeze"};
    std::map<std::pair<int, bool>, PhaseEstimate> frozen;  // by width, and whether inputs follow
    std::map<int, PhaseEstimate> learned;
    for (const BlockRange& wave : waves_) {
      const int width = wave.size();
      const bool next_inputs = wave.last < model_.blocks;
      if (!learned.contains(width)) learned[width] = learn_wave(width);
      if (!frozen.contains({width, next_inputs})) {
        auto& once = frozen[{width, next_inputs}];
        if (learns) add(once, propagate(width, false));
        add(once, propagate(width, next_inputs));
      }
      add(learn, learned[width]);
      add(freeze, frozen[{width, next_inputs}]);
    }
    RunEstimate estimate;
    estimate.phases = {chain(), learn, freeze};
    estimate.ranks = memories();
    estimate.steps = steps_ * static_cast<std::int64_t>(waves_.size());
    estimate.waves = static_cast<int>(waves_.size());
    estimate.stages = learning_stages(waves_.front().size());
    estimate.disk_bytes = disk();
    return estimate;
  }

  [[nodiscard]] std::vector<RankEstimate> memories() const {
    const int chain_stages = std::min(shape_.ranks, model_.blocks);
    const auto chain_ranges = split_evenly({0, model_.blocks}, chain_stages);
    std::map<int, std::vector<BlockRange>> by_width;
    for (const BlockRange& wave : waves_) {
      if (!by_width.contains(wave.size())) {
        by_width[wave.size()] = split_evenly({0, wave.size()}, learning_stages(wave.size()));
      }
    }
    std::vector<RankEstimate> ranks;
    for (int rank = 0; rank < shape_.ranks; ++rank) {
      RankShare share{.samples = batch_ / shape_.replicas, .on_device = shape_.on_device};
      share.recomputes = recomputes();
      const bool in_its_memory = shape_.targets == Targets::kMemory && !shape_.on_device;
      if (in_its_memory) share.kept_samples = shape_.samples / shape_.replicas;
      if (rank < chain_stages) {
        const BlockRange range = chain_ranges[static_cast<std::size_t>(rank)];
        share.chain_blocks = range.size();
        share.embeds = rank == 0;
      }
      for (const BlockRange& wave : waves_) {
        const auto& ranges = by_width[wave.size()];
        const auto stage = static_cast<std::size_t>(rank / shape_.replicas);
        if (stage >= ranges.size()) continue;
        const BlockRange range = ranges[stage];
        share.learn_blocks = std::max(share.learn_blocks, range.size());
      }
      ranks.push_back(
          {.rank = rank, .share = share, .memory = rank_memory(work_, model_, share, machine_)});
    }
    return ranks;
  }

 private:
  static void add(PhaseEstimate& sum, const PhaseEstimate& more) {
    sum.seconds += more.seconds;
    sum.computing += more.computing;
    sum.busy += more.busy;
    sum.wire_bytes += more.wire_bytes;
    sum.loading_seconds += more.loading_seconds;
    sum.file_seconds += more.file_seconds;
  }

  [[nodiscard]] int learning_stages(int width) const {
    return wave_layout(work_.recipe, shape_.ranks, width, shape_.replicas).stages;
  }

  /// bytes/s of one of `ranks` ranks that read or write at the same time.
  [[nodiscard]] double shared_rate(double own, int ranks) const {
    const int node = machine_.ranks_per_node;
    const int sharing = node > 0 ? std::min(node, ranks) : ranks;
    return machine_.storage > 0.0 ? std::min(own, machine_.storage / sharing) : own;
  }

  [[nodiscard]] double load_block(int ranks) const {
    const double bytes = static_cast<double>(work_.block.parameters) * work_.file_bytes;
    return bytes / shared_rate(machine_.checkpoint_read, ranks);
  }

  [[nodiscard]] double read_sample(int ranks) const {
    return work_.boundary_bytes() / shared_rate(machine_.hdf5_read, ranks);
  }
  [[nodiscard]] double write_sample(int ranks) const {
    return work_.boundary_bytes() / shared_rate(machine_.hdf5_write, ranks);
  }
  /// A sample that is kept in the host, to where it is used.
  [[nodiscard]] double copy_sample() const {
    return shape_.on_device ? work_.boundary_bytes() / machine_.memory_copy : 0.0;
  }

  [[nodiscard]] bool recomputes() const { return shape_.targets == Targets::kRecompute; }
  /// Tensors of a sample that pass from stage to stage: the original chain's too, or not.
  [[nodiscard]] double tensors_each() const { return recomputes() ? 2.0 : 1.0; }
  /// Samples that a stage's I/O thread reads, while it computes, for each one that it takes through
  /// its blocks.
  [[nodiscard]] double reads_of(int stage, double blocks) const {
    if (recomputes()) return stage == 0 ? 2.0 : 0.0;
    return blocks + (stage == 0 ? 1.0 : 0.0);
  }

  /// Rank-seconds that ranks of a phase spend on their own lists, and before them on their blocks.
  static double busy_of(const Simulation& played, const std::vector<BlockRange>& ranges,
                        int replicas, double a_block) {
    double busy = 0.0;
    for (const double seconds : played.busy) busy += seconds;
    for (const BlockRange& range : ranges) busy += replicas * range.size() * a_block;
    return busy;
  }

  /// Of `together` ranks, of which the first is given: they wait for each other.
  [[nodiscard]] double slowness(int first, int together = 1) const {
    const int slow = shape_.slow_rank - first;
    return slow >= 0 && slow < together ? shape_.slow_factor : 1.0;
  }

  /// Seconds of a message of `samples` samples from each of `senders`, the ranks 0, distance,
  /// 2 distance .., to the one after.
  [[nodiscard]] std::vector<double> transfers(int senders, double samples, int distance = 1) const {
    std::vector<double> seconds;
    for (int sender = 0; sender < senders; ++sender) {
      seconds.push_back(transfer(sender * distance, (sender + 1) * distance, samples));
    }
    return seconds;
  }

  [[nodiscard]] double transfer(int from, int to, double samples) const {
    const int node = machine_.ranks_per_node;
    const bool leaves = node > 0 && from / node != to / node;
    const double rate = leaves ? machine_.network : machine_.link;
    return shape_.slow_links * (machine_.latency_s + samples * work_.boundary_bytes() / rate);
  }

  [[nodiscard]] PhaseEstimate chain() const {
    const int stages = std::min(shape_.ranks, model_.blocks);
    const auto ranges = split_evenly({0, model_.blocks}, stages);
    const double compute = plain_forward(work_, machine_).total();
    Costs costs{.forward = {}, .transfers = transfers(stages, 1.0)};
    for (int stage = 0; stage < stages; ++stage) {
      const int blocks = ranges[static_cast<std::size_t>(stage)].size();
      const int written = (recomputes() ? 0 : blocks) + (stage == 0 ? 1 : 0);
      costs.forward.push_back(
          std::max(blocks * compute * slowness(stage), written * write_sample(stages)));
    }
    const Plan plan = plan_forward({.ranks = stages, .stages = stages, .samples = shape_.samples});
    PhaseEstimate phase{.name = "chain"};
    const double most = ranges.front().size();
    const double embedding = static_cast<double>(model_.embedding) * work_.file_bytes /
                             shared_rate(machine_.checkpoint_read, stages);
    phase.loading_seconds = most * load_block(stages) + embedding;
    const Simulation played = simulate(plan, costs);
    phase.seconds = phase.loading_seconds + played.seconds + 2.0 * (most + 1.0) * machine_.file_s;
    phase.busy = busy_of(played, ranges, 1, load_block(stages));
    phase.computing = static_cast<double>(shape_.samples) * model_.blocks * compute;
    phase.wire_bytes = (stages - 1) * static_cast<double>(shape_.samples) * work_.boundary_bytes();
    phase.file_seconds = static_cast<double>(shape_.samples) *
                         (recomputes() ? 1 : model_.blocks + 1) * write_sample(stages);
    return phase;
  }

  [[nodiscard]] double gradient_bytes() const {
    return 4.0 * static_cast<double>(work_.learnables.stepped);
  }
  /// Rounds of dist::tree_sum over the replicas: in each, pairs exchange both ways at once.
  [[nodiscard]] int tree_rounds() const {
    return std::countr_zero(static_cast<unsigned>(shape_.replicas));
  }
  /// Seconds to add up the gradients of one block.  Replicas lie side by side.
  [[nodiscard]] double tree_sum() const {
    const int node = machine_.ranks_per_node;
    const bool leaves = node > 0 && shape_.replicas > node;
    const double rate = leaves ? machine_.network : machine_.link;
    return shape_.slow_links * tree_rounds() * (machine_.latency_s + gradient_bytes() / rate);
  }

  [[nodiscard]] PhaseEstimate learn_wave(int width) const {
    const int stages = learning_stages(width);
    const int ranks = stages * shape_.replicas;
    const auto ranges = split_evenly({0, width}, stages);
    const std::int64_t samples = batch_ / shape_.replicas;
    const std::int64_t kept = shape_.samples / shape_.replicas;
    const double target =
        recomputes() ? static_cast<double>(samples) * plain_forward(work_, machine_).total() : 0.0;
    const double compute = learning_step(work_, machine_, samples).total() + target;
    const bool keeps = shape_.targets == Targets::kMemory;
    const double fetch =
        static_cast<double>(samples) * (keeps ? copy_sample() : read_sample(ranks));
    const double state = kStateTensors * gradient_bytes();
    Costs costs{.train = {},
                .transfers = transfers(stages, tensors_each() * static_cast<double>(samples),
                                       shape_.replicas)};
    for (int stage = 0; stage < stages; ++stage) {
      const double blocks = ranges[static_cast<std::size_t>(stage)].size();
      const double reads = reads_of(stage, blocks);
      const double slow = slowness(stage * shape_.replicas, shape_.replicas);
      costs.train.push_back(std::max(blocks * (compute * slow + tree_sum()), reads * fetch));
    }
    const double most = ranges.front().size();
    costs.cut = most * (state / shared_rate(machine_.hdf5_write, ranks) + machine_.file_s);
    const std::int64_t an_epoch = std::max<std::int64_t>(1, shape_.samples / batch_);
    const Plan plan =
        plan_learning(schedule_name(work_.recipe.train.schedule), {.ranks = stages,
                                                                   .stages = stages,
                                                                   .steps = steps_,
                                                                   .report_every = an_epoch,
                                                                   .cut_every = an_epoch});
    PhaseEstimate phase;
    phase.loading_seconds = most * load_block(ranks);
    if (recomputes()) phase.loading_seconds *= 2.0;  // for the trainer and for the original
    if (steps_ > 0 && keeps) {
      phase.loading_seconds += (most + 1.0) * static_cast<double>(kept) * read_sample(ranks);
    }
    const Simulation played = simulate(plan, costs);
    phase.seconds = phase.loading_seconds + played.seconds + most * machine_.file_s;
    phase.busy = shape_.replicas * busy_of(played, ranges, 1, phase.loading_seconds / most);
    const auto steps = static_cast<double>(steps_);
    phase.computing = steps * width * compute * shape_.replicas;
    phase.wire_bytes = steps * static_cast<double>(batch_) * (stages - 1) * tensors_each() *
                           work_.boundary_bytes() +
                       steps * width * shape_.replicas * tree_rounds() * gradient_bytes();
    phase.file_seconds = steps * reads_of(0, width) * fetch * shape_.replicas +
                         (work_.recipe.train.epochs - 1) * stages * costs.cut;
    return phase;
  }

  /// One pass of all samples through a wave's folded blocks.
  [[nodiscard]] PhaseEstimate propagate(int width, bool writes) const {
    const int stages = std::min(shape_.ranks, width);
    const int replicas =
        static_cast<int>(std::min<std::int64_t>(shape_.ranks / stages, shape_.samples));
    const int ranks = stages * replicas;
    const auto ranges = split_evenly({0, width}, stages);
    const double compute = frozen_forward(work_, machine_).total() +
                           (recomputes() ? plain_forward(work_, machine_).total() : 0.0);
    // A pass whose ranks lie as in learning finds what each has kept meanwhile.
    const bool finds = shape_.targets == Targets::kMemory && replicas == shape_.replicas;
    const double fetch = finds ? copy_sample() : read_sample(ranks);
    Costs costs{.forward = {}, .transfers = {}};
    for (int rank = 0; rank < ranks; ++rank) {
      costs.transfers.push_back(transfer(rank, rank + replicas, tensors_each()));
      const int stage = rank / replicas;
      const double blocks = ranges[static_cast<std::size_t>(stage)].size();
      const bool last = stage + 1 == stages;
      costs.forward.push_back(
          std::max(blocks * compute * slowness(rank),
                   reads_of(stage, blocks) * fetch +
                       (writes && last ? tensors_each() * write_sample(replicas) : 0.0)));
    }
    const Plan plan = plan_forward({.ranks = ranks,
                                    .stages = stages,
                                    .replicas = replicas,
                                    .samples = shape_.samples,
                                    .batch = batch_});
    const double most = ranges.front().size();
    const double fold = fold_weights(work_, machine_).total();
    const auto samples = static_cast<double>(shape_.samples);
    PhaseEstimate phase;
    phase.loading_seconds = most * (load_block(ranks) + fold);
    const Simulation played = simulate(plan, costs);
    phase.seconds = phase.loading_seconds + played.seconds + (writes ? 2.0 : 1.0) * machine_.file_s;
    phase.busy = busy_of(played, ranges, replicas, load_block(ranks) + fold);
    phase.computing = samples * width * compute + replicas * width * fold;
    phase.wire_bytes = samples * (stages - 1) * tensors_each() * work_.boundary_bytes();
    phase.file_seconds = samples * (reads_of(0, width) * fetch +
                                    (writes ? tensors_each() * write_sample(replicas) : 0.0));
    return phase;
  }

  [[nodiscard]] double disk() const {
    const double boundary = static_cast<double>(shape_.samples) * work_.boundary_bytes();
    const double learnables =
        4.0 * static_cast<double>(work_.learnables.stepped + work_.learnables.fixed);
    const double snapshots = kSnapshotsOnDisk * waves_.front().size() * kStateTensors * 4.0 *
                             static_cast<double>(work_.learnables.stepped);
    return boundaries_at_once(work_.recipe.train, shape_.targets, model_.blocks) * boundary +
           model_.blocks * learnables + (steps_ > 0 ? snapshots : 0.0) +
           4.0 * static_cast<double>(shape_.samples * work_.tokens);
  }

  const BlockWork& work_;
  const ModelFigures& model_;
  const Machine& machine_;
  const RunShape& shape_;
  std::vector<BlockRange> waves_;
  std::int64_t batch_;
  std::int64_t steps_ = 0;  // of one wave
};

bool needs_less(const RankEstimate& a, const RankEstimate& b) {
  return a.memory.most() < b.memory.most();
}

}  // namespace

double RunEstimate::seconds() const {
  double sum = 0.0;
  for (const PhaseEstimate& phase : phases) sum += phase.seconds;
  return sum;
}

double RunEstimate::wire_bytes() const {
  double sum = 0.0;
  for (const PhaseEstimate& phase : phases) sum += phase.wire_bytes;
  return sum;
}

double RunEstimate::utilisation() const {
  double busy = 0.0;
  for (const PhaseEstimate& phase : phases) busy += phase.busy;
  return busy / (seconds() * static_cast<double>(ranks.size()));
}

double RunEstimate::computing_share() const {
  double computing = 0.0;
  for (const PhaseEstimate& phase : phases) computing += phase.computing;
  return computing / (seconds() * static_cast<double>(ranks.size()));
}

const RankEstimate& heaviest_rank(const std::vector<RankEstimate>& ranks) {
  return *std::max_element(ranks.begin(), ranks.end(), needs_less);
}

const RankEstimate& median_rank(const std::vector<RankEstimate>& ranks) {
  std::vector<const RankEstimate*> order;
  for (const RankEstimate& rank : ranks) order.push_back(&rank);
  std::stable_sort(order.begin(), order.end(),
                   [](const RankEstimate* a, const RankEstimate* b) { return needs_less(*a, *b); });
  return *order[order.size() / 2];
}

std::vector<RankEstimate> estimate_ranks(const BlockWork& work, const ModelFigures& model,
                                         const Machine& machine, const RunShape& shape) {
  check(work, shape);
  return Estimator(work, model, machine, shape).memories();
}

RunEstimate estimate_run(const BlockWork& work, const ModelFigures& model, const Machine& machine,
                         const RunShape& shape) {
  check(work, shape);
  return Estimator(work, model, machine, shape).run();
}

}  // namespace lrq::pipeline

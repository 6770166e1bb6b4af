#include "src/pipeline/run_estimate.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <utility>

#include "src/pipeline/block_method.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/resident_blocks.h"
#include "src/pipeline/schedules/schedules.h"
#include "src/pipeline/turn_costs.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::pipeline {
namespace {

constexpr double kStateTensors = 4.0;  // values, two moments, the best epoch: BlockTrainer::state
constexpr double kSnapshotsOnDisk = 2.0;  // the newest named one and the one in the making

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
    estimate.steps = steps_ * static_cast<std::int64_t>(waves_.size());
    estimate.waves = static_cast<int>(waves_.size());
    estimate.stages = learning_stages(waves_.front().size());
    estimate.disk_bytes = disk();
    return estimate;
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

  /// Seconds of a stage in its first or a later turn to have its blocks there again.
  [[nodiscard]] double reload(const BlockRange& stage, double a_block, bool first = false) const {
    if (shape_.resident_blocks == 0) return 0.0;
    return loads_of_turn(stage.size(), shape_.resident_blocks, first) * a_block;
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
    const double load = load_block(stages);
    std::vector<WorkOfRank> of_rank;
    for (int stage = 0; stage < stages; ++stage) {
      const BlockRange& range = ranges[static_cast<std::size_t>(stage)];
      const int written = (recomputes() ? 0 : range.size()) + (stage == 0 ? 1 : 0);
      of_rank.push_back({.each = std::max(range.size() * compute * slowness(stage),
                                          written * write_sample(stages)),
                         .later_turn = reload(range, load)});
    }
    const ForwardShape passes{.ranks = stages,
                              .stages = stages,
                              .samples = shape_.samples,
                              .turn = turn_of(shape_.resident_blocks)};
    const TurnCosts turns(passes);
    const Simulation played = simulate(
        plan_forward(passes), {.transfers = transfers(stages, 1.0), .work = turns.work(of_rank)});
    PhaseEstimate phase{.name = "chain"};
    const double most = ranges.front().size();
    const double before = most * load + static_cast<double>(model_.embedding) * work_.file_bytes /
                                            shared_rate(machine_.checkpoint_read, stages);
    phase.loading_seconds = before + turns.besides(of_rank.front());
    phase.seconds = before + played.seconds + 2.0 * (most + 1.0) * machine_.file_s;
    phase.busy = busy_of(played, ranges, 1, load);
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
    const double load = (recomputes() ? 2.0 : 1.0) * load_block(ranks);  // and the original
    std::vector<WorkOfRank> of_rank;
    for (int stage = 0; stage < stages; ++stage) {
      const BlockRange& range = ranges[static_cast<std::size_t>(stage)];
      const double reads = reads_of(stage, range.size());
      const double slow = slowness(stage * shape_.replicas, shape_.replicas);
      of_rank.push_back(
          {.each = std::max(range.size() * (compute * slow + tree_sum()), reads * fetch),
           .first_turn = reload(range, load, true),
           .later_turn = reload(range, load)});
    }
    const double most = ranges.front().size();
    const double cut = most * (state / shared_rate(machine_.hdf5_write, ranks) + machine_.file_s);
    const std::int64_t an_epoch = std::max<std::int64_t>(1, shape_.samples / batch_);
    const LearnShape learning{.ranks = stages,
                              .stages = stages,
                              .steps = steps_,
                              .report_every = an_epoch,
                              .cut_every = an_epoch,
                              .turn = turn_of(shape_.resident_blocks)};
    const TurnCosts turns(learning);
    const Simulation played =
        simulate(plan_learning(schedule_name(work_.recipe.train.schedule), learning),
                 {.transfers = transfers(stages, tensors_each() * static_cast<double>(samples),
                                         shape_.replicas),
                  .cut = cut,
                  .work = turns.work(of_rank)});
    double before = most * load;
    if (steps_ > 0 && keeps) {
      before += (most + 1.0) * static_cast<double>(kept) * read_sample(ranks);
    }
    PhaseEstimate phase;
    phase.loading_seconds = before + turns.besides(of_rank.front());
    phase.seconds = before + played.seconds + most * machine_.file_s;
    phase.busy = shape_.replicas * busy_of(played, ranges, 1, before / most);
    const auto steps = static_cast<double>(steps_);
    phase.computing = steps * width * compute * shape_.replicas;
    phase.wire_bytes = steps * static_cast<double>(batch_) * (stages - 1) * tensors_each() *
                           work_.boundary_bytes() +
                       steps * width * shape_.replicas * tree_rounds() * gradient_bytes();
    phase.file_seconds = steps * reads_of(0, width) * fetch * shape_.replicas +
                         (work_.recipe.train.epochs - 1) * stages * cut;
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
    const double fold = fold_weights(work_, machine_).total();
    const double load = (recomputes() ? 2.0 : 1.0) * load_block(ranks) + fold;  // and the original
    std::vector<double> sending;
    std::vector<WorkOfRank> of_rank;
    for (int rank = 0; rank < ranks; ++rank) {
      sending.push_back(transfer(rank, rank + replicas, tensors_each()));
      const int stage = rank / replicas;
      const BlockRange& range = ranges[static_cast<std::size_t>(stage)];
      const bool last = stage + 1 == stages;
      of_rank.push_back(
          {.each = std::max(range.size() * compute * slowness(rank),
                            reads_of(stage, range.size()) * fetch +
                                (writes && last ? tensors_each() * write_sample(replicas) : 0.0)),
           .later_turn = reload(range, load)});
    }
    const ForwardShape passes{.ranks = ranks,
                              .stages = stages,
                              .replicas = replicas,
                              .samples = shape_.samples,
                              .batch = batch_,
                              .turn = turn_of(shape_.resident_blocks)};
    const TurnCosts turns(passes);
    const Simulation played = simulate(
        plan_forward(passes), {.transfers = std::move(sending), .work = turns.work(of_rank)});
    const double before = ranges.front().size() * load;
    const auto samples = static_cast<double>(shape_.samples);
    PhaseEstimate phase;
    phase.loading_seconds = before + turns.besides(of_rank.front());
    phase.seconds = before + played.seconds + (writes ? 2.0 : 1.0) * machine_.file_s;
    phase.busy = busy_of(played, ranges, replicas, load);
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

RunEstimate estimate_run(const BlockWork& work, const ModelFigures& model, const Machine& machine,
                         const RunShape& shape) {
  auto ranks = estimate_ranks(work, model, machine, shape);  // checks the shape, so it comes first
  RunEstimate estimate = Estimator(work, model, machine, shape).run();
  estimate.ranks = std::move(ranks);
  return estimate;
}

}  // namespace lrq::pipeline

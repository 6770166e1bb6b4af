#include "src/report/wave_replay.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "src/pipeline/schedules/schedules.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::report {
namespace {

using pipeline::BlockRange;
using pipeline::LearnShape;

/// 0 of nothing.
double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2.0;
}

bool timed(const EpochRecord& epoch) { return epoch.steps > 0 && epoch.seconds > 0.0; }

double step_seconds(const EpochRecord& epoch) {
  return epoch.seconds / static_cast<double>(epoch.steps);
}

/// Seconds of a step of one block in each epoch of the wave, and 0 where nothing tells.
class StepTimes {
 public:
  explicit StepTimes(const Metrics& metrics) : metrics_(metrics) {
    std::vector<double> all;
    for (const auto& [block, epochs] : metrics.epochs) {
      for (const auto& [number, epoch] : epochs) {
        if (timed(epoch)) all.push_back(step_seconds(epoch));
      }
    }
    median_ = median(std::move(all));
  }

  [[nodiscard]] double of(int block, std::int64_t epoch) const {
    const auto found = metrics_.epochs.find(block);
    if (found == metrics_.epochs.end()) return median_;
    const auto exact = found->second.find(epoch);
    if (exact != found->second.end() && timed(exact->second)) return step_seconds(exact->second);
    std::vector<double> others;
    for (const auto& [number, other] : found->second) {
      if (timed(other)) others.push_back(step_seconds(other));
    }
    return others.empty() ? median_ : median(std::move(others));
  }
  [[nodiscard]] bool known() const { return median_ > 0.0; }

 private:
  const Metrics& metrics_;
  double median_ = 0.0;
};

LearnShape shape_of(const WaveSetting& setting, const WaveRecord* record) {
  const std::int64_t all_steps = setting.recipe.train.epochs * setting.micro_batches;
  if (record != nullptr) {
    return {.ranks = record->ranks,
            .stages = static_cast<int>(record->waited.size()),
            .replicas = record->replicas,
            .first_step = record->first_step,
            .steps = record->steps,
            .report_every = setting.micro_batches,
            .cut_every = record->cut_every,
            .cut_at_end = record->steps < all_steps,
            .turn = record->turn};
  }
  const auto layout =
      pipeline::wave_layout(setting.recipe, setting.ranks, setting.blocks.size(), 0);
  return {.ranks = setting.ranks,
          .stages = layout.stages,
          .replicas = layout.replicas,
          .steps = all_steps,
          .report_every = setting.micro_batches,
          .cut_every = setting.micro_batches};
}

bool fits(const LearnShape& shape, const WaveSetting& setting) {
  const std::int64_t all_steps = setting.recipe.train.epochs * setting.micro_batches;
  return shape.steps <= all_steps && shape.first_step < shape.steps &&
         shape.stages <= setting.blocks.size();
}

std::int64_t cuts_of(const std::vector<pipeline::Action>& actions) {
  return std::count_if(actions.begin(), actions.end(),
                       [](const auto& action) { return action.op == pipeline::Op::kCut; });
}

/// Costs of one wave, of which the seconds of a step are [stage][epoch - first epoch].
struct Table {
  std::vector<std::vector<double>> step;
  std::int64_t first_epoch = 1;
};

Table step_table(const StepTimes& times, const LearnShape& shape,
                 const std::vector<BlockRange>& stages, const WaveRecord* record) {
  const std::int64_t a_epoch = shape.report_every;
  Table table{.step = {}, .first_epoch = shape.first_step / a_epoch + 1};
  const std::int64_t last_epoch = (shape.steps - 1) / a_epoch + 1;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    auto& mine = table.step.emplace_back();
    double computing = 0.0;
    for (std::int64_t epoch = table.first_epoch; epoch <= last_epoch; ++epoch) {
      double seconds = 0.0;
      for (int block = stages[stage].first; block < stages[stage].last; ++block) {
        seconds += times.of(block, epoch);
      }
      mine.push_back(seconds);
      const std::int64_t begin = std::max(shape.first_step, (epoch - 1) * a_epoch);
      computing += seconds * static_cast<double>(std::min(shape.steps, epoch * a_epoch) - begin);
    }
    if (record == nullptr) continue;
    const double besides =
        record->seconds - record->waited[stage] - record->cuts[stage] - computing;
    const auto steps = static_cast<double>(shape.steps - shape.first_step);
    for (double& seconds : mine) seconds += std::max(0.0, besides) / steps;
  }
  return table;
}

}  // namespace

double WaveReplay::simulated_waiting(int rank) const {
  return 1.0 - played.busy.at(static_cast<std::size_t>(rank)) / played.seconds;
}

std::optional<double> WaveReplay::measured_waiting(int rank) const {
  if (!measured || rank % replicas != 0) return std::nullopt;
  const auto stage = static_cast<std::size_t>(rank / replicas);
  if (stage >= stages.size()) return std::nullopt;
  return measured->waited[stage] / measured->seconds;
}

std::optional<WaveReplay> replay_wave(const WaveSetting& setting, int wave,
                                      const Metrics& metrics) {
  const StepTimes times(metrics);
  if (!times.known()) return std::nullopt;
  const auto found = metrics.waves.find(wave);
  const WaveRecord* record = found == metrics.waves.end() ? nullptr : &found->second;
  const LearnShape shape = shape_of(setting, record);
  if (!fits(shape, setting)) return std::nullopt;
  const auto stages = pipeline::split_evenly(setting.blocks, shape.stages);
  const pipeline::Plan plan =
      pipeline::plan_learning(pipeline::schedule_name(setting.recipe.train.schedule), shape);
  const Table table = step_table(times, shape, stages, record);
  pipeline::Costs costs;
  costs.work = [&](std::size_t rank, std::int64_t step) {
    const auto epoch = static_cast<std::size_t>(step / shape.report_every + 1 - table.first_epoch);
    return table.step[rank / static_cast<std::size_t>(shape.replicas)][epoch];
  };
  for (int rank = 0; record != nullptr && rank < shape.stages * shape.replicas; ++rank) {
    const std::int64_t cuts = cuts_of(plan.ranks[static_cast<std::size_t>(rank)]);
    const double seconds = record->cuts[static_cast<std::size_t>(rank / shape.replicas)];
    costs.cuts.push_back(cuts > 0 ? seconds / static_cast<double>(cuts) : 0.0);
  }
  WaveReplay replay{.wave = wave,
                    .blocks = setting.blocks,
                    .ranks = shape.ranks,
                    .replicas = shape.replicas,
                    .first_step = shape.first_step,
                    .steps = shape.steps,
                    .stages = stages,
                    .played = simulate(plan, costs, pipeline::Bars::kYes),
                    .measured = {}};
  if (record != nullptr) replay.measured = *record;
  return replay;
}

}  // namespace lrq::report

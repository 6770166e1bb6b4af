#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lrq::pipeline {

/// What a rank does next.  A schedule is data: lists of actions, made before anything runs,
/// printed, checked and simulated without a device.
enum class Op : char {
  kReceive = 'R',  ///< take the inputs of step (or sample) `index` from the rank before
  kTrain = 'T',    ///< one step of every block of the stage
  kForward = 'F',  ///< one sample through every block of the stage
  kSend = 'S',     ///< give the outputs of `index` to the rank after
  kCut = 'C',      ///< make the state of every block after step `index` durable
  kReport = 'P',   ///< tell rank 0 that `index` is done (and, after a cut, durable)
  kCollect = 'G',  ///< rank 0: take everybody's report of `index`
};

struct Action {
  Op op = Op::kTrain;
  std::int64_t index = 0;
  auto operator<=>(const Action&) const = default;
};

/// One phase of a run for all ranks.  Rank r's list says what it does in order; a chain of ranks
/// first .. last passes activations on: rank r receives from previous[r] and sends to next[r].
struct Plan {
  std::vector<std::vector<Action>> ranks;
  std::vector<int> previous;  ///< rank that rank r receives from; -1: its inputs come from a store
  std::vector<int> next;      ///< rank that rank r sends to; -1: none
  /// Steps (or samples) that a rank does with one of its blocks before the next of them begins.
  std::int64_t turn = 1;
  /// Messages carry no outputs, only word of what the rank before does: step t's is passed on
  /// before step t is done.
  bool word_only = false;
};

/// A plan in which no rank has anything to do or a neighbour.
[[nodiscard]] Plan empty_plan(int ranks);

/// "R0 T0 S0 C0 P0": one rank's list as text, and back.  parse throws UsageError on other text.
[[nodiscard]] std::string to_text(const std::vector<Action>& actions);
[[nodiscard]] std::vector<Action> parse_actions(std::string_view text);

/// The learning of one wave.
/// Rank r is replica r % R of stage r / R: replicas lie side by side, so on one node where they
/// can. Replica q of a stage feeds replica q of the next one, and replica 0 speaks for its stage.
struct LearnShape {
  int ranks = 1;                  ///< of the run; those beyond stages * replicas have nothing to do
  int stages = 1;                 ///< parts of the wave, of consecutive blocks
  int replicas = 1;               ///< R: ranks of a stage, which split every micro-batch
  std::int64_t first_step = 0;    ///< 0, or the step after a cut
  std::int64_t steps = 0;         ///< E * M
  std::int64_t report_every = 0;  ///< steps per epoch: a report after each (0: none)
  std::int64_t cut_every = 0;  ///< a cut after every so many steps (0: none); never the last step
  bool cut_at_end = false;     ///< a cut after the last step: the wave is left unfinished
  std::int64_t turn = 1;       ///< steps that a block does before the next one of its stage begins
};

/// The neighbours of every rank in the learning of a wave, and no actions yet.
[[nodiscard]] Plan linked_plan(const LearnShape& shape);

/// A pass of samples through frozen or original blocks.
struct ForwardShape {
  int ranks = 1;
  int stages = 1;
  int replicas = 1;  ///< R: chains side by side, each with a part of the samples
  std::int64_t samples = 0;
  std::int64_t batch = 1;  ///< B
  std::int64_t turn = 1;   ///< samples that a block does before the next one of its stage begins
};

/// True if a report (a cut) follows step `step`.
[[nodiscard]] bool reports_after(const LearnShape& shape, std::int64_t step);
[[nodiscard]] bool cuts_after(const LearnShape& shape, std::int64_t step);
/// The step behind the turn that begins with step `first`: what follows a step for all blocks of a
/// stage (a report, a cut) ends a turn.
[[nodiscard]] std::int64_t turn_end(const LearnShape& shape, std::int64_t first);

/// Samples of replica `replica`, in order: those that it learns from where R replicas share a batch
/// of B, its part of every B samples; else a contiguous part.
[[nodiscard]] std::vector<std::int64_t> samples_of_replica(const ForwardShape& shape, int replica);

/// Ranks lie as in the learning of a wave: rank r is replica r % R of stage r / R; the rest have no
/// part.
[[nodiscard]] Plan plan_forward(const ForwardShape& shape);

}  // namespace lrq::pipeline

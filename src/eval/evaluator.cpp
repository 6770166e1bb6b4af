#include "src/eval/evaluator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/base/log.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/eval/judging.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"
#include "src/pipeline/resident_blocks.h"

namespace lrq::eval {
namespace {

// Rows of logits made at a time: 256 x 128k vocabulary entries are 128 MiB.
constexpr std::int64_t kLogitRows = 256;
// Of a turn: 16 windows of 2048 tokens, or more passages where they are shorter, so that reading a
// block weighs as little.
constexpr std::int64_t kTokensOfTurn = pipeline::kTurnOfResidentBlock * 2048;
// A full evaluation takes hours; between two signs of progress there should not be many minutes.
constexpr double kProgressSeconds = 30.0;

/// Says now and then how many passages are through.
class Progress {
 public:
  explicit Progress(std::int64_t passages) : passages_(passages) {}
  void advance() {
    ++done_;
    if (since_told_.seconds() < kProgressSeconds) return;
    since_told_ = Stopwatch();
    log_event(LogLevel::kInfo, "evaluate", concat("done=", done_, " of=", passages_));
  }

 private:
  std::int64_t passages_;
  std::int64_t done_ = 0;
  Stopwatch since_told_;
};

std::int64_t passages_of_turn(const std::vector<std::int64_t>& lengths) {
  std::int64_t longest = 1;
  for (const std::int64_t length : lengths) longest = std::max(longest, length);
  return std::max(pipeline::kTurnOfResidentBlock, kTokensOfTurn / longest);
}

/// Multiply-adds per token of one block's linears, and of the head.
double block_cost(const models::Family& family) {
  double cost = 0.0;
  for (const models::LinearSpec& linear : family.block().linears) {
    cost += static_cast<double>(linear.out) * static_cast<double>(linear.in);
  }
  return cost;
}

double head_cost(const models::ModelConfig& config) {
  return static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
}

at::Tensor as_ids(const std::vector<std::int32_t>& ids, at::Device device) {
  at::Tensor row =
      at::empty({1, static_cast<std::int64_t>(ids.size())}, at::device(at::kCPU).dtype(at::kLong));
  std::copy(ids.begin(), ids.end(), row.mutable_data_ptr<std::int64_t>());
  return row.to(device);
}

/// Every window as a passage that predicts all its shifted tokens.
std::vector<Passage> passages_of(const at::Tensor& windows, const dist::Transport& transport) {
  std::vector<Passage> passages;
  const std::int64_t count = transport.rank().value == 0 ? windows.size(0) : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor window = windows[i].contiguous();
    const auto* ids = window.const_data_ptr<std::int32_t>();
    const auto* end = ids + window.numel();
    passages.push_back({.input = {ids, end - 1}, .targets = {{ids + 1, end}}});
  }
  return passages;
}

std::vector<double> losses_of(const std::vector<Score>& scores) {
  std::vector<double> losses;
  for (const Score& score : scores) {
    losses.push_back(-score.log_likelihood / static_cast<double>(score.tokens));
  }
  return losses;
}

}  // namespace

Evaluator::Evaluator(dist::Transport& transport, const Subject& subject)
    : transport_(transport),
      subject_(subject),
      model_(subject.model),
      stages_(std::min(transport.size(), subject.model.blocks())) {
  const int rank = transport.rank().value;
  if (rank >= stages_) return;
  const std::vector<double> costs(static_cast<std::size_t>(model_.blocks()),
                                  block_cost(model_.family()));
  const auto ranges = pipeline::partition(costs, stages_, 0.0, head_cost(model_.config()));
  const auto learnables = subject.states != nullptr ? pipeline::finished_learnables(*subject.states)
                                                    : [](BlockIndex, const models::NamedTensors&) {
                                                        return models::NamedTensors();
                                                      };
  range_ = ranges[static_cast<std::size_t>(rank)];
  stage_.emplace(model_, range_, subject.recipe, learnables, subject.compute, subject.store,
                 subject.resident_blocks);
  if (rank == 0) embedding_ = model_.embedding();
  if (rank + 1 == stages_) head_ = model_.head();
}

at::Tensor Evaluator::judge(const at::Tensor& hidden, const at::Tensor& targets) const {
  const std::int64_t count = targets.size(1);
  const std::int64_t start = hidden.size(1) - count;
  at::Tensor sums = at::zeros({targets.size(0)}, hidden.options().dtype(at::kDouble));
  at::Tensor greedy = at::ones({targets.size(0)}, hidden.options().dtype(at::kBool));
  for (std::int64_t first = 0; first < count; first += kLogitRows) {
    const std::int64_t rows = std::min(kLogitRows, count - first);
    const at::Tensor logits =
        model_.family().logits(head_, hidden.narrow(1, start + first, rows).contiguous())[0];
    const at::Tensor chosen =
        logits.gather(-1, targets.narrow(1, first, rows).t().contiguous().to(hidden.device()));
    sums = sums + (chosen - logits.logsumexp(-1, /*keepdim=*/true)).sum(0, false, at::kDouble);
    greedy = greedy.logical_and(chosen.eq(logits.amax(-1, /*keepdim=*/true)).all(0));
  }
  return at::stack({sums, greedy.to(at::kDouble)}, 1).to(at::kCPU);
}

bool Evaluator::has_last_block() const { return transport_.rank().value + 1 == stages_; }

at::Tensor Evaluator::last_block(const at::Tensor& input) const {
  return stage_->forward(stage_->size() - 1, input);
}

void Evaluator::forward(const std::vector<Passage>& passages, std::vector<std::int64_t> lengths,
                        pipeline::FrozenStage* stage, const AtLastBlock& at_last_block) {
  Progress progress(static_cast<std::int64_t>(lengths.size()));
  const pipeline::Plan plan = pipeline::plan_forward(
      {.ranks = transport_.size(),
       .stages = stages_,
       .samples = static_cast<std::int64_t>(lengths.size()),
       .turn = subject_.resident_blocks > 0 ? passages_of_turn(lengths) : 1});
  pipeline::simulate(plan);
  pipeline::run_forward(
      transport_, plan,
      {.hidden = model_.config().hidden_size,
       .dtype = subject_.store,
       .device = model_.device(),
       .lengths = std::move(lengths)},
      {.source =
           [&](std::int64_t i) {
             const at::Tensor ids =
                 as_ids(passages[static_cast<std::size_t>(i)].input, model_.device());
             return std::vector<at::Tensor>{
                 model_.family().embed(embedding_, ids).to(subject_.store).contiguous()};
           },
       .blocks = stage != nullptr ? stage->size() : 0,
       .block =
           [&](int block, std::vector<at::Tensor> x, std::int64_t i) {
             stage->enter(block);
             if (has_last_block() && block + 1 == stage->size()) {
               at_last_block(x.front(), i);
               progress.advance();
             } else {
               x.front() = stage->forward(block, x.front());
             }
             return x;
           }});
}

std::vector<Score> Evaluator::score(const std::vector<Passage>& passages) {
  const c10::NoGradGuard no_grad;
  expect(transport_.rank().value == 0 || passages.empty(), "passages come from rank 0");
  Judging judging(transport_, passages, Rank{stages_ - 1});
  forward(passages, judging.lengths(), stage_ ? &*stage_ : nullptr,
          [&](const at::Tensor& input, std::int64_t i) {
            judging.record(i, judge(last_block(input), judging.targets(i)));
          });
  return judging.scores();
}

std::vector<double> Evaluator::window_losses(const at::Tensor& windows) {
  return losses_of(score(passages_of(windows, transport_)));
}

Evaluator::Samples Evaluator::samples_for_adaptation(const std::vector<Passage>& passages,
                                                     const std::vector<std::int64_t>& lengths,
                                                     const std::vector<at::Tensor>& seen) {
  Samples samples{.inputs = seen, .targets = {}};
  if (subject_.recipe->tta.input == recipe::TtaInput::kEmbedding) {
    samples.inputs = embeddings(passages, lengths);
  }
  if (subject_.recipe->tta.target == recipe::TtaTarget::kFpChain) {
    std::optional<pipeline::FrozenStage> original;
    if (stage_) {
      original.emplace(model_, range_, nullptr, pipeline::LearnablesOf(), subject_.compute,
                       subject_.store, subject_.resident_blocks);
    }
    forward(passages, lengths, original ? &*original : nullptr,
            [&](const at::Tensor& input, std::int64_t) {
              samples.targets.push_back(original->forward(original->size() - 1, input));
            });
  }
  return samples;
}

std::unique_ptr<AdaptedBlock> Evaluator::adapted_to(std::span<const at::Tensor> inputs,
                                                    std::span<const at::Tensor> targets) const {
  if (!has_last_block()) return nullptr;
  auto block = std::make_unique<AdaptedBlock>(model_, *subject_.recipe, *subject_.states,
                                              subject_.compute, subject_.store, inputs, targets);
  log_event(LogLevel::kInfo, "adapted",
            concat("windows=", inputs.size(), " loss_first_epoch=", block->losses().front(),
                   " loss_last_epoch=", block->losses().back()));
  return block;
}

std::unique_ptr<AdaptedBlock> Evaluator::adapted_to(const at::Tensor& windows) {
  const std::vector<Passage> passages = passages_of(windows, transport_);
  const Judging judging(transport_, passages, Rank{stages_ - 1});
  std::vector<at::Tensor> seen;
  forward(passages, judging.lengths(), stage_ ? &*stage_ : nullptr,
          [&](const at::Tensor& input, std::int64_t) { seen.push_back(input.clone()); });
  const Samples samples = samples_for_adaptation(passages, judging.lengths(), seen);
  return adapted_to(samples.inputs, samples.targets);
}

Evaluator::AdaptedLosses Evaluator::adapted_window_losses(const at::Tensor& windows) {
  const c10::NoGradGuard no_grad;
  expect(subject_.recipe != nullptr, "only the model of a run is adapted");
  const std::vector<Passage> passages = passages_of(windows, transport_);
  Judging plain(transport_, passages, Rank{stages_ - 1});
  std::vector<at::Tensor> seen;
  forward(passages, plain.lengths(), stage_ ? &*stage_ : nullptr,
          [&](const at::Tensor& input, std::int64_t i) {
            plain.record(i, judge(last_block(input), plain.targets(i)));
            seen.push_back(input.clone());
          });
  const Samples samples = samples_for_adaptation(passages, plain.lengths(), seen);
  Judging adapted(transport_, passages, Rank{stages_ - 1});
  const bool alone = subject_.recipe->tta.scope == recipe::TtaScope::kSequence;
  std::unique_ptr<AdaptedBlock> block;
  if (!alone) block = adapted_to(samples.inputs, samples.targets);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (alone) {
      block = adapted_to(
          std::span(samples.inputs).subspan(i, 1),
          std::span(samples.targets)
              .subspan(samples.targets.empty() ? 0 : i, samples.targets.empty() ? 0 : 1));
    }
    const auto passage = static_cast<std::int64_t>(i);
    adapted.record(passage, judge(block->forward(seen[i]), adapted.targets(passage)));
  }
  return {.plain = losses_of(plain.scores()), .adapted = losses_of(adapted.scores())};
}

Evaluator::AdaptedScores Evaluator::adapted_scores(const std::vector<Passage>& passages,
                                                   const at::Tensor& windows) {
  const c10::NoGradGuard no_grad;
  expect(subject_.recipe != nullptr, "only the model of a run is adapted");
  const std::unique_ptr<AdaptedBlock> block = adapted_to(windows);
  Judging plain(transport_, passages, Rank{stages_ - 1});
  Judging adapted(transport_, passages, Rank{stages_ - 1});
  forward(passages, plain.lengths(), stage_ ? &*stage_ : nullptr,
          [&](const at::Tensor& input, std::int64_t i) {
            const at::Tensor targets = plain.targets(i);
            plain.record(i, judge(last_block(input), targets));
            adapted.record(i, judge(block->forward(input), targets));
          });
  return {.plain = plain.scores(), .adapted = adapted.scores()};
}

std::vector<at::Tensor> Evaluator::embeddings(const std::vector<Passage>& passages,
                                              const std::vector<std::int64_t>& lengths) {
  const Rank last{stages_ - 1};
  const int rank = transport_.rank().value;
  std::vector<at::Tensor> rows;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    at::Tensor row = at::empty({1, lengths[i], model_.config().hidden_size},
                               at::device(model_.device()).dtype(subject_.store));
    if (rank == 0) {
      const at::Tensor ids = as_ids(passages[i].input, model_.device());
      row = model_.family().embed(embedding_, ids).to(subject_.store);
    }
    if (last.value > 0 && rank == 0) transport_.send(row, last, "embeddings")->wait();
    if (last.value > 0 && rank == last.value) transport_.recv(row, Rank{0}, "embeddings")->wait();
    if (rank == last.value) rows.push_back(row);
  }
  return rows;
}

}  // namespace lrq::eval

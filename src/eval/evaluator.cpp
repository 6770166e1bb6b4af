#include "src/eval/evaluator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/base/log.h"
#include "src/base/process.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"

namespace lrq::eval {
namespace {

// A full evaluation takes hours; between two signs of progress there should not be many minutes.
constexpr double kProgressSeconds = 30.0;

// Rows of logits made at a time: 256 x 128k vocabulary entries are 128 MiB.
constexpr std::int64_t kLogitRows = 256;

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

at::TensorOptions on_host(at::ScalarType dtype) {
  return at::TensorOptions().dtype(dtype).device(at::kCPU);
}

/// Give every rank what `root` has; on the others `t` says the shape.
void share(dist::Transport& transport, at::Tensor& t, Rank root, std::string_view label) {
  if (transport.rank() != root) return transport.recv(t, root, label)->wait();
  for (int to = 0; to < transport.size(); ++to) {
    if (to != root.value) transport.send(t, Rank{to}, label)->wait();
  }
}

/// Sizes of one passage: T, n, A.
struct Sizes {
  std::int64_t input = 0;
  std::int64_t targets = 0;
  std::int64_t alternatives = 0;
};

/// What every rank must know of the passages that rank 0 has.
std::vector<Sizes> share_sizes(dist::Transport& transport, const std::vector<Passage>& passages) {
  const bool first = transport.rank().value == 0;
  at::Tensor count = at::full({1}, static_cast<std::int64_t>(passages.size()), on_host(at::kLong));
  share(transport, count, Rank{0}, "passages");
  at::Tensor table = at::zeros({count[0].item<std::int64_t>(), 3}, on_host(at::kLong));
  auto* row = table.mutable_data_ptr<std::int64_t>();
  for (std::size_t i = 0; first && i < passages.size(); ++i, row += 3) {
    const Passage& passage = passages[i];
    expect(!passage.targets.empty() && !passage.targets.front().empty(), "a passage has targets");
    row[0] = static_cast<std::int64_t>(passage.input.size());
    row[1] = static_cast<std::int64_t>(passage.targets.front().size());
    row[2] = static_cast<std::int64_t>(passage.targets.size());
    expect(row[1] <= row[0], "a passage has a position for every target");
  }
  share(transport, table, Rank{0}, "passage sizes");
  std::vector<Sizes> sizes;
  const auto* value = table.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < table.size(0); ++i, value += 3) {
    sizes.push_back({.input = value[0], .targets = value[1], .alternatives = value[2]});
  }
  return sizes;
}

/// All targets in a row, int32, on rank 0 and on the last stage, which judges.
at::Tensor share_targets(dist::Transport& transport, const std::vector<Passage>& passages,
                         const std::vector<Sizes>& sizes, Rank last) {
  std::int64_t count = 0;
  for (const Sizes& one : sizes) count += one.targets * one.alternatives;
  at::Tensor all = at::empty({count}, on_host(at::kInt));
  auto* out = all.mutable_data_ptr<std::int32_t>();
  for (const Passage& passage : passages) {
    for (const auto& targets : passage.targets) {
      expect(targets.size() == passage.targets.front().size(), "alternatives are equally long");
      out = std::copy(targets.begin(), targets.end(), out);
    }
  }
  if (last.value == 0) return all;
  if (transport.rank().value == 0) transport.send(all, last, "targets")->wait();
  if (transport.rank() == last) transport.recv(all, Rank{0}, "targets")->wait();
  return all;
}

at::Tensor as_ids(const std::vector<std::int32_t>& ids) {
  at::Tensor row = at::empty({1, static_cast<std::int64_t>(ids.size())}, on_host(at::kLong));
  std::copy(ids.begin(), ids.end(), row.mutable_data_ptr<std::int64_t>());
  return row;
}

}  // namespace

Evaluator::Evaluator(dist::Transport& transport, const Subject& subject)
    : transport_(transport),
      model_(subject.model),
      store_(subject.store),
      stages_(std::min(transport.size(), subject.model.blocks())) {
  const int rank = transport.rank().value;
  if (rank >= stages_) return;
  const std::vector<double> costs(static_cast<std::size_t>(model_.blocks()),
                                  block_cost(model_.family()));
  const auto ranges = pipeline::partition(costs, stages_, 0.0, head_cost(model_.config()));
  const auto learnables = subject.recipe != nullptr ? pipeline::finished_learnables(*subject.states)
                                                    : pipeline::LearnablesOf();
  stage_.emplace(model_, ranges[static_cast<std::size_t>(rank)], subject.recipe, learnables,
                 subject.compute, subject.store);
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
  return at::stack({sums, greedy.to(at::kDouble)}, 1).cpu();
}

void Evaluator::forward(
    const std::vector<Passage>& passages, std::vector<std::int64_t> lengths,
    const std::function<void(const at::Tensor& hidden, std::int64_t passage)>& at_end) {
  const bool last = transport_.rank().value + 1 == stages_;
  const pipeline::Plan plan =
      pipeline::plan_forward({.ranks = transport_.size(),
                              .stages = stages_,
                              .samples = static_cast<std::int64_t>(lengths.size())});
  pipeline::simulate(plan);
  pipeline::run_forward(
      transport_, plan,
      {.hidden = model_.config().hidden_size, .dtype = store_, .lengths = std::move(lengths)},
      {.source =
           [&](std::int64_t i) {
             const at::Tensor ids = as_ids(passages[static_cast<std::size_t>(i)].input);
             return model_.family().embed(embedding_, ids).to(store_).contiguous();
           },
       .blocks =
           [&](const at::Tensor& input, std::int64_t i) {
             at::Tensor x = input;
             for (int block = 0; block < stage_->size(); ++block) x = stage_->forward(block, x);
             if (last) at_end(x, i);
             return x;
           }});
}

std::vector<Score> Evaluator::score(const std::vector<Passage>& passages) {
  const c10::NoGradGuard no_grad;
  expect(transport_.rank().value == 0 || passages.empty(), "passages come from rank 0");
  const Rank last{stages_ - 1};
  const std::vector<Sizes> sizes = share_sizes(transport_, passages);
  const at::Tensor targets = share_targets(transport_, passages, sizes, last);
  std::vector<std::int64_t> lengths;
  std::vector<Score> scores;
  for (const Sizes& one : sizes) {
    lengths.push_back(one.input);
    scores.insert(scores.end(), static_cast<std::size_t>(one.alternatives),
                  {.tokens = one.targets});
  }
  at::Tensor found = at::zeros({std::ssize(scores), 2}, on_host(at::kDouble));
  std::int64_t read = 0;
  std::int64_t written = 0;
  Stopwatch since_told;
  forward(passages, std::move(lengths), [&](const at::Tensor& hidden, std::int64_t i) {
    const Sizes& size = sizes[static_cast<std::size_t>(i)];
    const at::Tensor mine = targets.narrow(0, read, size.alternatives * size.targets)
                                .view({size.alternatives, size.targets});
    found.narrow(0, written, size.alternatives).copy_(judge(hidden, mine.to(at::kLong)));
    read += mine.numel();
    written += size.alternatives;
    if (since_told.seconds() < kProgressSeconds) return;
    since_told = Stopwatch();
    log_event(LogLevel::kInfo, "evaluate", concat("done=", i + 1, " of=", sizes.size()));
  });
  share(transport_, found, last, "scores");
  const auto* value = found.const_data_ptr<double>();
  for (Score& score : scores) {
    score.log_likelihood = *value++;
    score.greedy = *value++ != 0.0;
  }
  return scores;
}

std::vector<double> Evaluator::window_losses(const at::Tensor& windows) {
  std::vector<Passage> passages;
  const std::int64_t count = transport_.rank().value == 0 ? windows.size(0) : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const at::Tensor window = windows[i].contiguous();
    const auto* ids = window.const_data_ptr<std::int32_t>();
    const auto* end = ids + window.numel();
    passages.push_back({.input = {ids, end - 1}, .targets = {{ids + 1, end}}});
  }
  std::vector<double> losses;
  for (const Score& score : score(passages)) {
    losses.push_back(-score.log_likelihood / static_cast<double>(score.tokens));
  }
  return losses;
}

}  // namespace lrq::eval

#include "src/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "dist/collectives.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/forward_pass.h"
#include "src/pipeline/partition.h"
#include "src/pipeline/plan_check.h"

namespace lrq::eval {
namespace {

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

double Evaluator::window_loss(const at::Tensor& hidden, const at::Tensor& ids) const {
  const std::int64_t predictions = ids.size(1) - 1;
  at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (std::int64_t first = 0; first < predictions; first += kLogitRows) {
    const std::int64_t rows = std::min(kLogitRows, predictions - first);
    const at::Tensor logits =
        model_.family().logits(head_, hidden.narrow(1, first, rows).contiguous());
    const at::Tensor next = ids.narrow(1, first + 1, rows).to(at::kLong).unsqueeze(-1);
    const at::Tensor likelihoods = logits.gather(-1, next).squeeze(-1) - logits.logsumexp(-1);
    sum = sum - likelihoods.sum(at::kDouble);
  }
  return sum.item<double>() / static_cast<double>(predictions);
}

std::vector<double> Evaluator::window_losses(const at::Tensor& windows) {
  const c10::NoGradGuard no_grad;
  const int rank = transport_.rank().value;
  const Rank last{stages_ - 1};
  at::Tensor shape = at::zeros({2}, on_host(at::kLong));
  if (rank == 0) shape = at::tensor({windows.size(0), windows.size(1)}, at::kLong);
  for (int to = 1; rank == 0 && to < transport_.size(); ++to) {
    transport_.send(shape, Rank{to}, "windows")->wait();
  }
  if (rank > 0) transport_.recv(shape, Rank{0}, "windows")->wait();
  const std::int64_t count = shape[0].item<std::int64_t>();
  const std::int64_t tokens = shape[1].item<std::int64_t>();

  // The last stage needs the ids too, to know what was to be predicted.
  at::Tensor ids = rank == 0 ? windows : at::empty({count, tokens}, on_host(at::kInt));
  if (stages_ > 1 && rank == 0) transport_.send(ids, last, "window ids")->wait();
  if (stages_ > 1 && rank == last.value) transport_.recv(ids, Rank{0}, "window ids")->wait();

  const pipeline::Plan plan =
      pipeline::plan_forward({.ranks = transport_.size(), .stages = stages_, .samples = count});
  pipeline::simulate(plan);
  at::Tensor losses = at::zeros({count}, on_host(at::kDouble));
  pipeline::run_forward(
      transport_, plan, {.tokens = tokens, .hidden = model_.config().hidden_size, .dtype = store_},
      {.source =
           [&](std::int64_t window) {
             const at::Tensor row = ids[window].unsqueeze(0).to(at::kLong);
             return model_.family().embed(embedding_, row).to(store_).contiguous();
           },
       .blocks =
           [&](const at::Tensor& input, std::int64_t window) {
             at::Tensor x = input;
             for (int i = 0; i < stage_->size(); ++i) x = stage_->forward(i, x);
             if (rank == last.value) losses[window] = window_loss(x, ids[window].unsqueeze(0));
             return x;
           }});
  for (int to = 0; rank == last.value && to < transport_.size(); ++to) {
    if (to != last.value) transport_.send(losses, Rank{to}, "window losses")->wait();
  }
  if (rank != last.value) transport_.recv(losses, last, "window losses")->wait();
  const double* values = losses.const_data_ptr<double>();
  return {values, values + count};
}

double perplexity(const std::vector<double>& window_losses) {
  const double sum = std::accumulate(window_losses.begin(), window_losses.end(), 0.0);
  return std::exp(sum / static_cast<double>(window_losses.size()));
}

at::Tensor cut_into_windows(const at::Tensor& stream, std::int64_t length, std::int64_t limit) {
  std::int64_t count = stream.numel() / length;
  if (count == 0) {
    throw DataError(
        {.what = concat("the text has ", stream.numel(), " tokens, and one window needs ", length),
         .where = "option --ppl",
         .fix = "give more text, or a smaller --seqlen"});
  }
  if (limit > 0) count = std::min(count, limit);
  return stream.narrow(0, 0, count * length).view({count, length}).contiguous();
}

}  // namespace lrq::eval

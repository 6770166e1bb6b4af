#include "src/pipeline/block_objective.h"

#include <iterator>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/pipeline/block_method.h"

namespace lrq::pipeline {
namespace {

constexpr double kMomentum = 0.95;
constexpr double kSmallestAverage = 1e-6;

/// Add a term; the sum is undefined until there is one.
void add(at::Tensor& sum, const at::Tensor& term, double share) {
  if (share == 0.0) return;
  const at::Tensor weighted = term * share;
  sum = sum.defined() ? sum + weighted : weighted;
}

/// [2] float64: l1 and l2 of a sample, 0 where there is none.
at::Tensor values_of(const BlockObjective::Terms& terms) {
  const at::Tensor zero = at::zeros({}, terms.measured.options());
  const auto value = [&](const at::Tensor& term) {
    return term.defined() ? term.detach().to(at::kDouble) : zero;
  };
  return at::stack({value(terms.mse), value(terms.nlc)});
}

/// Sum in the tree of the micro-batch: halves first.
at::Tensor tree_sum(std::span<const BlockObjective::Terms> samples) {
  if (samples.size() == 1) return values_of(samples.front());
  const std::size_t half = (samples.size() + 1) / 2;
  return tree_sum(samples.first(half)) + tree_sum(samples.subspan(half));
}

}  // namespace

BlockObjective::BlockObjective(const models::Family& family, const models::NamedTensors& weights,
                               const recipe::Recipe& recipe, at::ScalarType compute)
    : family_(family),
      weight_(recipe.loss),
      nlc_(nlc_options(recipe)),
      tokens_(token_weight_options(recipe)),
      ema_(recipe.loss.balance == recipe::Balance::kEma) {
  hold_original(weights, compute);
  if (ema_) {
    averages_ =
        at::ones({2}, weights.begin()->second.options().dtype(at::kDouble).requires_grad(false));
  }
}

void BlockObjective::hold_original(const models::NamedTensors& weights, at::ScalarType compute) {
  if (weight_.mse_r > 0.0 || weight_.nlc_r > 0.0) {
    original_ = models::plain_block(family_, weights, compute);
  }
}

BlockObjective::Terms BlockObjective::measure(const at::Tensor& output, const at::Tensor& target,
                                              const at::Tensor& input) const {
  // A term without weight is measured for the log, and takes no part in the backward pass.
  const auto measured = [](double share, const auto& loss) {
    const c10::AutoGradMode grad(share > 0.0 && c10::GradMode::is_enabled());
    return loss();
  };
  const at::Tensor token_weights = quant::token_weights(target, tokens_);
  const at::Tensor mse =
      measured(weight_.mse_p, [&] { return quant::mse_loss(output, target, token_weights); });
  const at::Tensor nlc =
      measured(weight_.nlc_p, [&] { return quant::nlc_loss(output, target, nlc_); });
  Terms terms;
  add(terms.mse, mse, weight_.mse_p);
  add(terms.nlc, nlc, weight_.nlc_p);
  if (original_) {
    const at::Tensor homologous = [&] {
      const c10::NoGradGuard no_grad;
      return family_.forward(*original_, input, models::plain_sites());
    }();
    if (weight_.mse_r > 0.0) {
      add(terms.mse, quant::mse_loss(output, homologous, quant::token_weights(homologous, tokens_)),
          weight_.mse_r);
    }
    if (weight_.nlc_r > 0.0) {
      add(terms.nlc, quant::nlc_loss(output, homologous, nlc_), weight_.nlc_r);
    }
  }
  terms.measured = at::stack({mse.detach(), nlc.detach()}).to(at::kDouble);
  return terms;
}

at::Tensor BlockObjective::averages_after(std::span<const Terms> samples,
                                          const Replicas& replicas) const {
  if (!ema_) return {};
  const c10::NoGradGuard no_grad;
  const at::Tensor sum = tree_sum(samples);
  replicas.sum(sum);
  const at::Tensor mean = sum / static_cast<double>(std::ssize(samples) * replicas.count);
  return averages_ * kMomentum + mean * (1.0 - kMomentum);
}

at::Tensor BlockObjective::combine(const Terms& terms, const at::Tensor& averages) {
  const auto share = [&](const at::Tensor& term, std::int64_t which) {
    return averages.defined() ? term / (averages[which] + kSmallestAverage).to(term.scalar_type())
                              : term;
  };
  at::Tensor loss;
  if (terms.mse.defined()) add(loss, share(terms.mse, 0), 1.0);
  if (terms.nlc.defined()) add(loss, share(terms.nlc, 1), 1.0);
  return loss.defined() ? loss : at::zeros({}, terms.measured.options().dtype(at::kFloat));
}

}  // namespace lrq::pipeline

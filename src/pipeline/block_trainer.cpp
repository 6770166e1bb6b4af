#include "src/pipeline/block_trainer.h"

#include <iterator>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/masked.h"

namespace lrq::pipeline {
namespace {

constexpr std::int64_t kMaskedStepsBeforeStop = 10;

}  // namespace

BlockTrainer::BlockTrainer(const models::Family& family, models::NamedTensors weights,
                           const models::NamedTensors& learnables, TrainSettings settings)
    : family_(family),
      weights_(std::move(weights)),
      settings_(std::move(settings)),
      method_(block_method(settings_.recipe)),
      objective_(family_, weights_, settings_.recipe, settings_.compute),
      best_loss_(std::numeric_limits<double>::infinity()) {
  const auto options = weights_.begin()->second.options().dtype(at::kFloat).requires_grad(false);
  const models::NamedTensors start = models::on_device(learnables, options.device());
  std::vector<at::Tensor> values;
  std::vector<at::Tensor> rates;
  for (const auto& [name, tensor] : start) {
    const models::RateGroup group = models::rate_group(name, method_);
    if (group == models::RateGroup::kFixed) continue;
    values.push_back(tensor.detach().to(options).reshape({-1}));
    rates.push_back(at::full({tensor.numel()}, rate(group), options));
  }
  flat_ = values.empty() ? at::empty({0}, options) : at::cat(values);
  std::int64_t offset = 0;
  for (const auto& [name, tensor] : start) {
    if (models::rate_group(name, method_) == models::RateGroup::kFixed) {
      // Integers (permutations) stay what they are.
      const at::ScalarType dtype =
          at::isFloatingType(tensor.scalar_type()) ? at::kFloat : tensor.scalar_type();
      learnables_.emplace(name, tensor.detach().to(dtype).clone());
      continue;
    }
    at::Tensor leaf = flat_.narrow(0, offset, tensor.numel()).view(tensor.sizes()).detach();
    leaf.set_requires_grad(true);
    offset += tensor.numel();
    leaves_.push_back(leaf);
    learnables_.emplace(name, leaf);
  }
  if (!leaves_.empty()) optimizer_.emplace(flat_, at::cat(rates), settings_.recipe.train.wd);
  sums_ = at::zeros({4}, options.dtype(at::kDouble));
  counters_ = at::zeros({3}, options.dtype(at::kLong));
  best_ = flat_.clone();
  epochs_ = at::empty({0, flat_.numel()}, options);
}

double BlockTrainer::rate(models::RateGroup group) const {
  const auto& train = settings_.recipe.train;
  const double vectors = settings_.recipe.rotation_vectors.lr;
  switch (group) {
    case models::RateGroup::kFixed:
      return 0.0;
    case models::RateGroup::kSmoothing:
      return train.let_lr;
    case models::RateGroup::kClipping:
      return train.lwc_lr;
    case models::RateGroup::kRotation:
      return vectors > 0.0 ? vectors : train.let_lr;
    case models::RateGroup::kMap:
      return settings_.recipe.rotation.lr;
  }
  return 0.0;
}

models::EffectiveBlock BlockTrainer::fold_now() {
  models::truncate_scales(learnables_, method_);
  return models::fold(family_, weights_, learnables_, method_, settings_.compute, &fixed_);
}

at::Tensor BlockTrainer::forward(const models::EffectiveBlock& block, const at::Tensor& input) {
  return family_.forward(block, input, models::quantizing_sites(family_, method_, block));
}

BlockTrainer::Batch BlockTrainer::Batch::part(std::size_t first, std::size_t count) const {
  return {.inputs = inputs.subspan(first, count),
          .targets = targets.subspan(first, count),
          .outputs = outputs.subspan(first, count),
          .terms = terms.subspan(first, count)};
}

void BlockTrainer::measure(const models::EffectiveBlock& block, const Batch& sample) {
  const at::Tensor output = forward(block, sample.inputs.front());
  sample.terms.front() = objective_.measure(output, sample.targets.front(), sample.inputs.front());
  sample.outputs.front() = output.detach().to(settings_.store);
}

BlockTrainer::SampleLoss BlockTrainer::learn_samples(const models::EffectiveBlock& block,
                                                     const Batch& batch, const at::Tensor& averages,
                                                     bool last) {
  if (batch.inputs.size() > 1) {
    // Halves first, so that a replica with 1/R of the samples owns one subtree.
    const std::size_t half = (batch.inputs.size() + 1) / 2;
    SampleLoss left = learn_samples(block, batch.part(0, half), averages, false);
    const SampleLoss right =
        learn_samples(block, batch.part(half, batch.inputs.size() - half), averages, last);
    left.values = left.values + right.values;
    if (left.gradient.defined()) left.gradient = left.gradient + right.gradient;
    return left;
  }
  if (!averages.defined()) measure(block, batch);
  // Taken out of the batch, so that this sample's graph goes when its gradient is known.
  const BlockObjective::Terms terms = std::move(batch.terms.front());
  const at::Tensor loss = BlockObjective::combine(terms, averages);
  const at::Tensor values = at::cat({loss.detach().to(at::kDouble).reshape({1}), terms.measured});
  if (leaves_.empty() || stopped_) return {.values = values, .gradient = {}};
  // The folded weights serve every sample of the micro-batch; their graph goes with the last one.
  const auto gradients = torch::autograd::grad({loss}, leaves_, {}, /*retain_graph=*/!last,
                                               /*create_graph=*/false, /*allow_unused=*/true);
  std::vector<at::Tensor> parts;
  parts.reserve(leaves_.size());
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    parts.push_back(gradients[i].defined() ? gradients[i].reshape({-1})
                                           : at::zeros_like(leaves_[i]).reshape({-1}));
  }
  return {.values = values, .gradient = at::cat(parts)};
}

void BlockTrainer::apply(const SampleLoss& sum, const at::Tensor& averages, std::int64_t samples) {
  const c10::NoGradGuard no_grad;
  const at::Tensor values = sum.values / static_cast<double>(samples);
  at::Tensor finite = (values[0] - values[0]).eq(0);  // infinity - infinity is NaN
  if (sum.gradient.defined()) {
    // A finite loss can have a gradient that is not; it would poison the moments for good.
    const at::Tensor total = sum.gradient.sum();
    finite = finite.bitwise_and((total - total).eq(0));
  }
  if (averages.defined()) {
    objective_.averages().copy_(select(finite, averages, objective_.averages()));
  }
  const at::Tensor counted = at::cat({values, at::ones({1}, values.options())});
  sums_.add_(select(finite, counted, at::zeros_like(counted)));
  const at::Tensor masked = finite.bitwise_not().to(at::kLong);
  const at::Tensor in_a_row = (counters_[1] + 1) * masked;
  counters_.copy_(
      at::stack({counters_[0] + masked, in_a_row, at::maximum(counters_[2], in_a_row)}));
  if (sum.gradient.defined()) {
    optimizer_->step(sum.gradient / static_cast<double>(samples), finite, rate_factor());
  }
}

double BlockTrainer::rate_factor() const {
  if (settings_.recipe.train.lr_schedule == recipe::LrSchedule::kConstant) return 1.0;
  return 1.0 - static_cast<double>(steps_done_) / static_cast<double>(settings_.steps);
}

std::vector<at::Tensor> BlockTrainer::step(std::span<const at::Tensor> inputs,
                                           std::span<const at::Tensor> targets, Emit emit_outputs) {
  expect(!inputs.empty() && inputs.size() == targets.size(), "one target for each input");
  std::vector<at::Tensor> outputs(inputs.size());
  {
    const c10::AutoGradMode grad(!leaves_.empty() && !stopped_);
    const models::EffectiveBlock block = fold_now();
    std::vector<BlockObjective::Terms> terms(inputs.size());
    const Batch batch{.inputs = inputs, .targets = targets, .outputs = outputs, .terms = terms};
    if (objective_.balances()) {
      for (std::size_t i = 0; i < inputs.size(); ++i) measure(block, batch.part(i, 1));
    }
    const Replicas& replicas = settings_.replicas;
    const at::Tensor averages = objective_.averages_after(terms, replicas);
    const SampleLoss sum = learn_samples(block, batch, averages, true);
    replicas.sum(sum.values);
    if (sum.gradient.defined()) replicas.sum(sum.gradient);
    apply(sum, averages, std::ssize(inputs) * replicas.count);
  }
  ++steps_done_;
  if (emit_outputs == Emit::kNo) return {};
  if (settings_.recipe.train.emit == recipe::Emit::kPost) {
    const c10::NoGradGuard no_grad;
    const models::EffectiveBlock block = fold_now();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      outputs[i] = forward(block, inputs[i]).to(settings_.store);
    }
  }
  return outputs;
}

LossSummary BlockTrainer::end_epoch(BlockIndex block) {
  const c10::NoGradGuard no_grad;
  const at::Tensor sums = sums_.cpu();
  const at::Tensor counters = counters_.cpu();
  const double* sum = sums.const_data_ptr<double>();
  const std::int64_t* counter = counters.const_data_ptr<std::int64_t>();
  LossSummary summary;
  summary.steps = static_cast<std::int64_t>(sum[3]);
  summary.masked = counter[0];
  const double nan = std::numeric_limits<double>::quiet_NaN();
  summary.loss = summary.steps > 0 ? sum[0] / sum[3] : nan;
  summary.mse = summary.steps > 0 ? sum[1] / sum[3] : nan;
  summary.nlc = summary.steps > 0 ? sum[2] / sum[3] : nan;
  const std::int64_t longest = counter[2];
  if (summary.masked > 0 && settings_.recipe.train.nonfinite == recipe::Nonfinite::kStop) {
    throw NumericError(
        {.what = concat("block ", block, ": the loss was not finite in ", summary.masked, " of ",
                        summary.masked + summary.steps, " steps"),
         .where = "recipe field train.nonfinite = \"stop\"",
         .fix = "lower let_lr and lwc_lr, or use train.nonfinite = \"restore\""});
  }
  if (summary.steps > 0 && summary.loss < best_loss_) {
    best_loss_ = summary.loss;
    best_.copy_(flat_);
  }
  if (longest >= kMaskedStepsBeforeStop && !stopped_) {
    flat_.copy_(best_);
    stopped_ = true;
  }
  summary.stopped = stopped_;
  if (settings_.recipe.train.keep_best) epochs_ = at::cat({epochs_, flat_.unsqueeze(0)});
  sums_.zero_();
  // Steps masked in a row go on counting over the boundary between two epochs.
  counters_.copy_(at::stack({at::zeros_like(counters_[0]), counters_[1], counters_[1]}));
  return summary;
}

void BlockTrainer::drop_weights() {
  weights_.clear();
  fixed_.clear();
  objective_.drop_original();
}

void BlockTrainer::hold_weights(models::NamedTensors weights) {
  weights_ = std::move(weights);
  objective_.hold_original(weights_, settings_.compute);
}

models::NamedTensors BlockTrainer::learnables() const { return named(flat_); }

std::vector<models::NamedTensors> BlockTrainer::learnables_by_epoch() const {
  std::vector<models::NamedTensors> epochs;
  for (std::int64_t i = 0; i < epochs_.size(0); ++i) epochs.push_back(named(epochs_[i]));
  return epochs;
}

models::NamedTensors BlockTrainer::named(const at::Tensor& flat) const {
  models::NamedTensors copies;
  std::int64_t offset = 0;  // leaves lie in flat_ in the order of their names
  for (const auto& [name, tensor] : learnables_) {
    if (!tensor.requires_grad()) {
      copies.emplace(name, tensor.clone());
      continue;
    }
    copies.emplace(name, flat.narrow(0, offset, tensor.numel()).view(tensor.sizes()).clone());
    offset += tensor.numel();
  }
  return copies;
}

models::NamedTensors BlockTrainer::state() const {
  models::NamedTensors state;
  for (const auto& [name, tensor] : learnables()) state.emplace("learnable." + name, tensor);
  if (optimizer_) {
    state.emplace("adamw.first", optimizer_->first_moment().clone());
    state.emplace("adamw.second", optimizer_->second_moment().clone());
    state.emplace("adamw.steps", optimizer_->steps().clone());
  }
  state.emplace("loss.sums", sums_.clone());
  state.emplace("loss.counters", counters_.clone());
  state.emplace("best.parameters", best_.clone());
  if (objective_.balances()) state.emplace("loss.averages", objective_.averages().clone());
  if (settings_.recipe.train.keep_best) state.emplace("epochs", epochs_.clone());
  state.emplace("best.loss", at::full({}, best_loss_, sums_.options()));
  state.emplace("progress", at::stack({at::full({}, stopped_ ? 1 : 0, counters_.options()),
                                       at::full({}, steps_done_, counters_.options())}));
  return state;
}

void BlockTrainer::restore(const models::NamedTensors& state) {
  const c10::NoGradGuard no_grad;
  for (auto& [name, tensor] : learnables_) tensor.copy_(state.at("learnable." + name));
  if (optimizer_) {
    optimizer_->restore(state.at("adamw.first"), state.at("adamw.second"), state.at("adamw.steps"));
  }
  sums_.copy_(state.at("loss.sums"));
  counters_.copy_(state.at("loss.counters"));
  best_.copy_(state.at("best.parameters"));
  if (objective_.balances()) objective_.averages().copy_(state.at("loss.averages"));
  if (settings_.recipe.train.keep_best) epochs_ = state.at("epochs").to(flat_.options());
  best_loss_ = state.at("best.loss").item<double>();
  stopped_ = state.at("progress")[0].item<std::int64_t>() != 0;
  steps_done_ = state.at("progress")[1].item<std::int64_t>();
}

}  // namespace lrq::pipeline

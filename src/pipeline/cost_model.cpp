#include "src/pipeline/cost_model.h"

#include <vector>

#include "src/base/text.h"
#include "src/pipeline/block_method.h"

namespace lrq::pipeline {
namespace {

// Bytes of one element.
constexpr double kThroughQuantizer = 2 * kFloatBytes;      // read, write
constexpr double kBackThroughQuantizer = 3 * kFloatBytes;  // read twice, write
constexpr double kCast = 6.0;                              // float32 to bfloat16 or back

constexpr double kBackwardOfAttention = 2.5;
constexpr double kPassesOfAdamW = 60.0;

/// How often a float32 of each width is read or written.
struct Passes {
  double hidden = 0.0;
  double queries = 0.0;
  double values = 0.0;
  double inner = 0.0;
};
constexpr Passes kForward = {.hidden = 20, .queries = 5, .values = 5, .inner = 5};
constexpr Passes kBackward = {.hidden = 57, .queries = 6, .values = 7, .inner = 11};
constexpr double kLosses = 13.0;          // of C
constexpr double kLossesBackward = 12.0;  // of C
constexpr double kSharedHeads = 4.0;      // of Q: keys and values repeated
constexpr double kSharedHeadsBackward = 5.0;
constexpr double kStatistics = 2.0;  // of each linear's input

double elements(const BlockWork& work, Passes passes, double shared) {
  const BlockFigures& b = work.block;
  if (b.shares_heads) passes.queries += shared;
  return static_cast<double>(work.tokens) * (passes.hidden * static_cast<double>(b.hidden) +
                                             passes.queries * static_cast<double>(b.queries) +
                                             passes.values * static_cast<double>(b.values) +
                                             passes.inner * static_cast<double>(b.inner));
}

double hidden_elements(const BlockWork& work, double passes) {
  return passes * static_cast<double>(work.tokens * work.block.hidden);
}

/// Channels of a token that the linears read, each site once.
std::int64_t site_widths(const BlockFigures& b) { return 2 * b.hidden + b.queries + b.inner; }

/// Elements that pass a quantizer of activations, for one sample.
double quantized_elements(const BlockWork& work) {
  const models::BlockMethod method = block_method(work.recipe);
  const BlockFigures& b = work.block;
  std::int64_t widths = 0;
  if (!method.activation.identity()) widths += site_widths(b);
  if (!method.query.identity()) widths += b.queries;
  if (!method.key_value.identity()) widths += 2 * b.values;
  return static_cast<double>(work.tokens * widths);
}

double weights_to_quantize(const BlockWork& work) {
  return block_method(work.recipe).weight.identity() ? 0.0
                                                     : static_cast<double>(work.block.weights);
}

/// Bytes to convert what linears and attention read, and what linears give, one way.
double casts(const BlockWork& work, const Machine& machine) {
  if (work.compute_bytes == 4) return 0.0;
  const BlockFigures& b = work.block;
  const std::int64_t read = machine.fused_cast ? 0 : site_widths(b);
  return kCast *
         static_cast<double>(work.tokens * (read + b.queries + 2 * b.values + b.linear_outputs));
}

/// Bytes to convert the weights, one way.
double weight_casts(const BlockWork& work, const Machine& machine) {
  return work.compute_bytes == 4 || machine.fused_cast
             ? 0.0
             : kCast * static_cast<double>(work.block.weights);
}

/// Bytes of all weights through their quantizer, forward or back: the weight is read, and its
/// quantized value written or that value's gradient read.
double weight_pass(const BlockWork& work, const Machine& machine) {
  const double other = machine.fused_cast ? work.compute_bytes : kFloatBytes;
  return (kFloatBytes + other) * weights_to_quantize(work);
}

double product_rate(const BlockWork& work, const Machine& machine) {
  return work.compute_bytes == 4 ? machine.float32_products : machine.bfloat16_products;
}

/// Products, attention and elementwise work of one sample forward through any block.
Seconds forward_of(const BlockWork& work, const Machine& machine) {
  return {
      .products = product_operations(work) / product_rate(work, machine),
      .attention = attention_operations(work) / machine.attention,
      .elementwise = (kFloatBytes * elements(work, kForward, kSharedHeads) + casts(work, machine)) /
                     machine.elementwise,
      .starting = machine.forward_s};
}

void add(Seconds& sum, const Seconds& more, double times = 1.0) {
  sum.products += times * more.products;
  sum.attention += times * more.attention;
  sum.quantizer += times * more.quantizer;
  sum.elementwise += times * more.elementwise;
  sum.starting += times * more.starting;
}

Seconds quantized_forward(const BlockWork& work, const Machine& machine) {
  Seconds seconds = forward_of(work, machine);
  seconds.quantizer = kThroughQuantizer * quantized_elements(work) / machine.quantizer;
  return seconds;
}

Seconds backward_of(const BlockWork& work, const Machine& machine) {
  return {
      .products = 2.0 * product_operations(work) / product_rate(work, machine),
      .attention = kBackwardOfAttention * attention_operations(work) / machine.attention,
      .quantizer = (weight_pass(work, machine) + kBackThroughQuantizer * quantized_elements(work)) /
                   machine.quantizer,
      .elementwise = (kFloatBytes * (elements(work, kBackward, kSharedHeadsBackward) +
                                     hidden_elements(work, kLossesBackward)) +
                      casts(work, machine) + weight_casts(work, machine)) /
                     machine.elementwise};
}

Seconds losses(const BlockWork& work, const Machine& machine) {
  return {.elementwise = kFloatBytes * hidden_elements(work, kLosses) / machine.elementwise};
}

}  // namespace

double product_operations(const BlockWork& work) {
  return 2.0 * static_cast<double>(work.tokens) * static_cast<double>(work.block.weights);
}

double attention_operations(const BlockWork& work) {
  const auto tokens = static_cast<double>(work.tokens);
  return 4.0 * tokens * tokens * static_cast<double>(work.block.queries);
}

Seconds plain_forward(const BlockWork& work, const Machine& machine) {
  Seconds seconds = forward_of(work, machine);
  const BlockFigures& b = work.block;
  const auto observed = static_cast<double>(work.tokens * site_widths(b));
  seconds.elementwise += kFloatBytes * kStatistics * observed / machine.elementwise;
  return seconds;
}

Seconds frozen_forward(const BlockWork& work, const Machine& machine) {
  Seconds seconds = quantized_forward(work, machine);
  add(seconds, losses(work, machine));
  return seconds;
}

Seconds fold_weights(const BlockWork& work, const Machine& machine) {
  return {.quantizer = weight_pass(work, machine) / machine.quantizer,
          .elementwise = weight_casts(work, machine) / machine.elementwise};
}

Seconds learning_step(const BlockWork& work, const Machine& machine, std::int64_t samples) {
  Seconds sample = quantized_forward(work, machine);
  sample.starting = 0.0;  // a step has its own
  add(sample, losses(work, machine));
  add(sample, backward_of(work, machine));
  const auto& loss = work.recipe.loss;
  if (loss.mse_r > 0.0 || loss.nlc_r > 0.0) {
    add(sample, forward_of(work, machine));
    add(sample, losses(work, machine));
  }
  Seconds step = fold_weights(work, machine);
  if (work.recipe.train.emit == recipe::Emit::kPost) {
    add(step, fold_weights(work, machine));
    add(sample, quantized_forward(work, machine));
  }
  add(step, sample, static_cast<double>(samples));
  step.elementwise += kFloatBytes * kPassesOfAdamW * static_cast<double>(work.learnables.stepped) /
                      machine.elementwise;
  step.starting += machine.learning_step_s * static_cast<double>(samples);
  Seconds whole;
  add(whole, step,
      work.compute_bytes == 4 ? machine.float32_step_factor : machine.bfloat16_step_factor);
  return whole;
}

std::string not_counted(const recipe::Recipe& recipe) {
  std::vector<std::string> parts;
  if (recipe.rotation.kind != recipe::RotationKind::kOff) {
    parts.emplace_back("building and applying changes of basis");
  }
  if (recipe.weights.rounding == recipe::Rounding::kGptq) parts.emplace_back("GPTQ rounding");
  if (recipe.clusters.kind != recipe::ClusterKind::kOff) parts.emplace_back("clustering");
  if (recipe.train.keep_best) parts.emplace_back("the passes of train.keep_best");
  return join(parts, ", ");
}

}  // namespace lrq::pipeline

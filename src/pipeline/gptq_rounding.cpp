#include "src/pipeline/gptq_rounding.h"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/models/clusters.h"
#include "src/models/learnables.h"
#include "src/pipeline/block_method.h"
#include "src/quant/gptq.h"
#include "src/quant/hessian.h"

namespace lrq::pipeline {
namespace {

class Rounder {
 public:
  Rounder(const BlockSamples& block, const models::NamedTensors& learnables)
      : block_(block),
        method_(block_method(block.recipe)),
        learnables_(models::truncated_scales(learnables, method_)),
        prepared_(models::prepared_weights(block.family, block.weights, learnables_, method_)) {}

  [[nodiscard]] models::NamedTensors codes() {
    for (const std::set<models::Site>& sites : passes()) {
      const auto hessians = hessians_at(sites);
      int turn = 0;
      for (const models::LinearSpec& linear : block_.family.block().linears) {
        if (!sites.contains(linear.input)) continue;
        const bool mine = turn++ % block_.share.count == block_.share.place;
        add_codes(linear, mine ? rounded(linear, hessians.at(linear.input)) : none_of(linear));
      }
    }
    return std::move(codes_);
  }

 private:
  /// The sites whose Hessians one pass over the samples sums.
  [[nodiscard]] std::vector<std::set<models::Site>> passes() const {
    std::vector<std::set<models::Site>> passes;
    for (const models::LinearSpec& linear : block_.family.block().linears) {
      if (passes.empty() ||
          (block_.recipe.gptq.sequential && !passes.back().contains(linear.input))) {
        passes.emplace_back();
      }
      passes.back().insert(linear.input);
    }
    return passes;
  }

  /// Over all samples, on every rank that shares them.
  [[nodiscard]] std::map<models::Site, at::Tensor> hessians_at(
      const std::set<models::Site>& wanted) const {
    models::BlockMethod running = method_;
    if (!block_.recipe.gptq.sequential) running.weight.bits = 16;
    if (block_.recipe.gptq.inputs == recipe::GptqInputs::kPlain) {
      running.activation.bits = running.query.bits = running.key_value.bits = 16;
    }
    models::NamedTensors learnables = learnables_;
    if (block_.recipe.gptq.sequential) learnables.insert(codes_.begin(), codes_.end());
    std::map<models::Site, quant::HessianSum> sums;
    const std::int64_t first_chunk = block_.share.chunks(block_.samples).first;
    pass_samples(block_, learnables, running,
                 [&](std::int64_t sample, models::Site site, const at::Tensor& entering) {
                   if (!wanted.contains(site)) return;
                   const auto sum = sums.try_emplace(site, entering.size(-1), block_.samples,
                                                     entering.device(), first_chunk);
                   sum.first->second.add(sample, entering);
                 });
    std::map<models::Site, at::Tensor> hessians;
    for (const auto& [site, sum] : sums) hessians.emplace(site, shared_value(sum));
    return hessians;
  }

  [[nodiscard]] at::Tensor shared_value(const quant::HessianSum& mine) const {
    if (block_.share.count == 1) return mine.value();
    const at::Tensor sum = mine.parts().front().sum;  // the only part: a share is one subtree
    block_.share.sum(sum);
    quant::HessianSum all(sum.size(0), block_.samples, sum.device());
    all.append({.chunks = {.first = 0, .count = quant::sum_chunks(block_.samples)}, .sum = sum});
    return all.value();
  }

  [[nodiscard]] at::Tensor none_of(const models::LinearSpec& linear) const {
    return at::zeros({linear.out, linear.in},
                     block_.weights.begin()->second.options().dtype(codes_dtype()));
  }

  /// Ranks that share samples share the linears of a site too; the sum of codes and zeros is exact.
  void add_codes(const models::LinearSpec& linear, const at::Tensor& codes) {
    block_.share.sum(codes);
    codes_.emplace(models::codes_name(linear.name), codes);
    block_.share.alive();
  }

  [[nodiscard]] at::ScalarType codes_dtype() const {
    return method_.weight.bits <= 8 ? at::kByte : at::kInt;
  }

  [[nodiscard]] at::Tensor rounded(const models::LinearSpec& linear,
                                   const at::Tensor& hessian) const {
    const models::PreparedWeight& prepared = prepared_.at(linear.name);
    const quant::QuantizedWeight nearest = models::quantize_prepared(prepared, method_);
    const at::Tensor column_group = prepared.layout.runs.empty()
                                        ? at::Tensor()
                                        : prepared.layout.column_group(hessian.device());
    const quant::GptqResult result =
        quant::gptq(quant::scale_weight(prepared.weight, prepared.transform), hessian,
                    method_.weight, nearest.step, nearest.zero,
                    {.damping = block_.recipe.gptq.damping,
                     .act_order = block_.recipe.gptq.act_order,
                     .name = linear.name},
                    column_group);
    return result.codes.to(codes_dtype());
  }

  const BlockSamples& block_;  // borrowed for one gptq_codes() call
  models::BlockMethod method_;
  models::NamedTensors learnables_;
  std::map<std::string, models::PreparedWeight> prepared_;
  models::NamedTensors codes_;
};

}  // namespace

bool rounds_by_gptq(const recipe::Recipe& recipe) {
  return recipe.weights.rounding == recipe::Rounding::kGptq && recipe.weights.bits < 16;
}

models::NamedTensors gptq_codes(const BlockSamples& block, const models::NamedTensors& learnables) {
  const c10::NoGradGuard no_grad;
  return Rounder(block, learnables).codes();
}

}  // namespace lrq::pipeline

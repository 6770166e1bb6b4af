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
  Rounder(const models::Family& family, const models::NamedTensors& weights,
          models::NamedTensors learnables, const recipe::Recipe& recipe,
          const RoundingInputs& inputs, at::ScalarType compute)
      : family_(family),
        weights_(weights),
        recipe_(recipe),
        inputs_(inputs),
        compute_(compute),
        method_(block_method(recipe)),
        learnables_(std::move(learnables)) {
    models::truncate_scales(learnables_, method_);
    prepared_ = models::prepared_weights(family, weights, learnables_, method_);
  }

  [[nodiscard]] models::NamedTensors codes() {
    for (const std::set<models::Site>& sites : passes()) {
      const auto hessians = hessians_at(sites);
      for (const models::LinearSpec& linear : family_.block().linears) {
        if (sites.contains(linear.input)) round(linear, hessians.at(linear.input).value());
      }
    }
    return std::move(codes_);
  }

 private:
  /// The sites whose Hessians one pass over the samples sums.
  [[nodiscard]] std::vector<std::set<models::Site>> passes() const {
    std::vector<std::set<models::Site>> passes;
    for (const models::LinearSpec& linear : family_.block().linears) {
      if (passes.empty() || (recipe_.gptq.sequential && !passes.back().contains(linear.input))) {
        passes.emplace_back();
      }
      passes.back().insert(linear.input);
    }
    return passes;
  }

  [[nodiscard]] std::map<models::Site, quant::HessianSum> hessians_at(
      const std::set<models::Site>& wanted) const {
    models::BlockMethod running = method_;
    if (!recipe_.gptq.sequential) running.weight.bits = 16;
    if (recipe_.gptq.inputs == recipe::GptqInputs::kPlain) {
      running.activation.bits = running.query.bits = running.key_value.bits = 16;
    }
    models::NamedTensors learnables = learnables_;
    if (recipe_.gptq.sequential) learnables.insert(codes_.begin(), codes_.end());
    const models::EffectiveBlock block =
        models::fold(family_, weights_, learnables, running, compute_);
    const models::SiteFunction sites = models::quantizing_sites(family_, running, block);
    std::map<models::Site, quant::HessianSum> hessians;
    for (std::int64_t sample = 0; sample < inputs_.samples; ++sample) {
      const auto observe = [&](models::Site site, const at::Tensor& x) {
        const at::Tensor entering = sites(site, x);
        if (wanted.contains(site)) {
          const auto sum =
              hessians.try_emplace(site, entering.size(-1), inputs_.samples, entering.device());
          sum.first->second.add(sample, entering);
        }
        return entering;
      };
      (void)family_.forward(block, inputs_.read(sample), observe);
    }
    return hessians;
  }

  void round(const models::LinearSpec& linear, const at::Tensor& hessian) {
    const models::PreparedWeight& prepared = prepared_.at(linear.name);
    const quant::QuantizedWeight nearest = models::quantize_prepared(prepared, method_);
    const at::Tensor column_group = prepared.layout.runs.empty()
                                        ? at::Tensor()
                                        : prepared.layout.column_group(hessian.device());
    const at::Tensor scaled =
        quant::fake_quant_weight(prepared.weight,
                                 {.column_scale = prepared.transform.column_scale,
                                  .row_scale = prepared.transform.row_scale},
                                 quant::Grid{});
    const quant::GptqResult rounded = quant::gptq(
        scaled, hessian, method_.weight, nearest.step, nearest.zero,
        {.damping = recipe_.gptq.damping, .act_order = recipe_.gptq.act_order, .name = linear.name},
        column_group);
    codes_.emplace(models::codes_name(linear.name),
                   rounded.codes.to(method_.weight.bits <= 8 ? at::kByte : at::kInt));
  }

  const models::Family& family_;  // borrowed for one gptq_codes() call, as all references here
  const models::NamedTensors& weights_;
  const recipe::Recipe& recipe_;
  const RoundingInputs& inputs_;
  at::ScalarType compute_;
  models::BlockMethod method_;
  models::NamedTensors learnables_;
  std::map<std::string, models::PreparedWeight> prepared_;
  models::NamedTensors codes_;
};

}  // namespace

bool rounds_by_gptq(const recipe::Recipe& recipe) {
  return recipe.weights.rounding == recipe::Rounding::kGptq && recipe.weights.bits < 16;
}

models::NamedTensors gptq_codes(const models::Family& family, const models::NamedTensors& weights,
                                const models::NamedTensors& learnables,
                                const recipe::Recipe& recipe, const RoundingInputs& inputs,
                                at::ScalarType compute) {
  const c10::NoGradGuard no_grad;
  return Rounder(family, weights, learnables, recipe, inputs, compute).codes();
}

}  // namespace lrq::pipeline

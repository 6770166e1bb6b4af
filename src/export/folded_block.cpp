#include "src/export/folded_block.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::exporter {
namespace {

bool is_zero(const at::Tensor& bias) { return !bias.defined() || !bias.ne(0).any().item<bool>(); }

/// The weights in the original basis of their inputs: W^ M', exact up to rounding.
void undo_maps(const models::BlockSpec& spec, models::EffectiveBlock& block) {
  for (const models::LinearSpec& linear : spec.linears) {
    const auto map = block.maps.find(linear.input);
    if (map == block.maps.end()) continue;
    at::Tensor& weight = block.linears.at(linear.name).weight;
    weight = transform::unfold(map->second, weight);
  }
}

/// Norm biases without a place of their own go through the linears that read them.
void move_norm_biases(const models::BlockSpec& spec, const BiasPlan& plan,
                      models::EffectiveBlock& block) {
  for (const models::NormPair& pair : spec.norm_pairs) {
    at::Tensor& bias = block.norms.at(pair.norm).bias;
    if (plan.norms.contains(pair.norm) || !bias.defined()) continue;
    for (const std::string& name : pair.consumers) {
      models::EffectiveLinear& linear = block.linears.at(name);
      const at::Tensor moved = at::mv(linear.weight, bias);
      linear.bias = linear.bias.defined() ? linear.bias + moved : moved;
    }
    bias = at::Tensor();
  }
}

}  // namespace

models::NamedTensors folded_block(const models::Family& family, BlockIndex k,
                                  const models::NamedTensors& weights,
                                  models::NamedTensors learnables,
                                  const models::BlockMethod& method, const BiasPlan& plan) {
  const c10::NoGradGuard no_grad;
  models::truncate_scales(learnables, method);
  models::EffectiveBlock block = models::fold(family, weights, learnables, method, at::kFloat);
  undo_maps(family.block(), block);
  move_norm_biases(family.block(), plan, block);

  const std::string prefix = family.block_prefix(k);
  models::NamedTensors found;
  const auto put = [&](const std::string& name, const at::Tensor& weight, const at::Tensor& bias,
                       const std::set<std::string>& places) {
    found.emplace(concat(prefix, name, ".weight"), weight);
    if (places.contains(name)) {
      found.emplace(concat(prefix, name, ".bias"),
                    bias.defined() ? bias : at::zeros({weight.size(0)}, weight.options()));
    } else {
      expect(is_zero(bias), concat(name, " has a bias and the folder no place for it"));
    }
  };
  for (const auto& [name, linear] : block.linears) {
    put(name, linear.weight, linear.bias, plan.linears);
  }
  for (const auto& [name, norm] : block.norms) put(name, norm.weight, norm.bias, plan.norms);
  for (const auto& [name, tensor] : weights) found.emplace(prefix + name, tensor);
  return found;
}

}  // namespace lrq::exporter

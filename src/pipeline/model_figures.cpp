#include "src/pipeline/model_figures.h"

#include <algorithm>
#include <string>

#include <ATen/ATen.h>

#include "src/base/text.h"

namespace lrq::pipeline {
namespace {

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

BlockFigures block_figures(const models::Family& family) {
  BlockFigures figures;
  for (const models::TensorSpec& spec : family.block_tensors(BlockIndex{0})) {
    figures.parameters += elements(spec.shape);
  }
  for (const models::LinearSpec& linear : family.block().linears) {
    figures.weights += linear.out * linear.in;
    figures.largest_weight = std::max(figures.largest_weight, linear.out * linear.in);
    figures.linear_outputs += linear.out;
    if (linear.input == models::Site::kDownIn) figures.inner = linear.in;
  }
  const models::ModelConfig& config = family.config();
  figures.hidden = config.hidden_size;
  figures.queries = config.num_attention_heads * config.head_dim;
  figures.values = config.num_key_value_heads * config.head_dim;
  figures.shares_heads = config.query_groups() > 1;
  return figures;
}

/// The block's tensors without their bytes.
models::NamedTensors shapes_of(const models::Family& family) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::kMeta);
  const std::size_t prefix = family.block_prefix(BlockIndex{0}).size();
  models::NamedTensors shapes;
  for (const models::TensorSpec& spec : family.block_tensors(BlockIndex{0})) {
    shapes.emplace(spec.name.substr(prefix), at::empty(spec.shape, options));
  }
  return shapes;
}

models::NamedTensors statistic_shapes(const models::Family& family) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::kMeta);
  models::NamedTensors shapes;
  for (const models::LinearSpec& linear : family.block().linears) {
    const std::string site(models::site_name(linear.input));
    for (const char* kind : {".absmax", ".shift"}) {
      shapes.emplace(site + kind, at::empty({linear.in}, options));
    }
  }
  return shapes;
}

/// One reflection in front of each quantizer of linear inputs.
std::int64_t reflections(const models::Family& family) {
  std::map<models::Site, std::int64_t> widths;
  for (const models::LinearSpec& linear : family.block().linears) widths[linear.input] = linear.in;
  std::int64_t sum = 0;
  for (const auto& [site, width] : widths) sum += width;
  return sum;
}

}  // namespace

ModelFigures model_figures(const models::Family& family) {
  ModelFigures figures;
  figures.block = block_figures(family);
  figures.blocks = static_cast<int>(family.config().num_hidden_layers);
  figures.vocabulary = family.config().vocab_size;
  std::vector<std::string> embedding_names;
  for (const models::TensorSpec& spec : family.embedding_tensors()) {
    figures.embedding += elements(spec.shape);
    embedding_names.push_back(spec.name);
  }
  for (const models::TensorSpec& spec : family.head_tensors()) {
    const bool tied = std::find(embedding_names.begin(), embedding_names.end(), spec.name) !=
                      embedding_names.end();
    if (!tied) figures.head += elements(spec.shape);
  }
  return figures;
}

LearnableFigures learnable_figures(const models::Family& family,
                                   const models::BlockMethod& method) {
  LearnableFigures figures;
  models::BlockMethod sizes = method;
  sizes.start = models::ScaleStart::kOnes;  // needs no values, and there are none
  const auto learnables =
      models::initial_learnables(family, shapes_of(family), statistic_shapes(family), sizes);
  for (const auto& [name, tensor] : learnables) {
    const bool steps = models::rate_group(name, method) != models::RateGroup::kFixed;
    (steps ? figures.stepped : figures.fixed) += tensor.numel();
  }
  if (method.map.learn_householder) figures.stepped += reflections(family);
  return figures;
}

}  // namespace lrq::pipeline

#include "src/export/bias_plan.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/models/learnables.h"

namespace lrq::exporter {
namespace {

/// A key of config.json that gives linears a bias which the checkpoint need not have.
struct BiasSwitch {
  std::string_view model_type;
  std::string_view key;
  std::vector<std::string> linears;
};

// What the model classes of transformers read.  An architecture without a line has the biases of
// its checkpoint and no others (Mistral: none; Qwen2: q, k, v; OPT: all, norms included).
const std::vector<BiasSwitch>& bias_switches() {
  static const std::vector<std::string> kAttention = {"self_attn.q_proj", "self_attn.k_proj",
                                                      "self_attn.v_proj", "self_attn.o_proj"};
  static const std::vector<BiasSwitch> kSwitches = {
      {"llama", "attention_bias", kAttention},
      {"llama", "mlp_bias", {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}},
      {"qwen3", "attention_bias", kAttention},
  };
  return kSwitches;
}

[[noreturn]] void refuse_shift(const std::string& what) {
  throw UsageError({.what = what,
                    .where = "the run's recipe, field smoothing.shift",
                    .fix = "calibrate with --recipe lrquant-export, or with "
                           "--set smoothing.shift=off"});
}

class Planner {
 public:
  Planner(const models::Family& family, LinearInputs inputs) : family_(family), inputs_(inputs) {
    for (const models::LinearSpec& linear : family.block().linears) {
      if (linear.bias) plan_.linears.insert(linear.name);
    }
    const std::string prefix = family.block_prefix(BlockIndex{0});
    for (const models::TensorSpec& tensor : family.block_tensors(BlockIndex{0})) {
      for (const std::string& norm : family.block().norms) {
        if (tensor.name == concat(prefix, norm, ".bias")) plan_.norms.insert(norm);
      }
    }
  }

  [[nodiscard]] BiasPlan plan(const std::set<std::string>& shifted) {
    for (const models::NormPair& pair : family_.block().norm_pairs) {
      if (shifted.contains(pair.name)) place_norm(pair);
    }
    for (const models::ValuePair& pair : family_.block().value_pairs) {
      if (!shifted.contains(pair.name)) continue;
      place_linear(pair.producer);
      place_linear(pair.consumer);
    }
    return std::move(plan_);
  }

 private:
  void place_norm(const models::NormPair& pair) {
    if (!plan_.norms.contains(pair.norm) && inputs_ == LinearInputs::kQuantized) {
      refuse_shift(concat("the run's shifts give ", pair.norm, " a bias, which model_type ",
                          family_.config().model_type,
                          " has no place for and which cannot move past quantized activations"));
    }
    for (const std::string& consumer : pair.consumers) place_linear(consumer);
  }

  void place_linear(const std::string& name) {
    if (plan_.linears.contains(name)) return;
    for (const BiasSwitch& line : bias_switches()) {
      if (line.model_type != family_.config().model_type ||
          std::find(line.linears.begin(), line.linears.end(), name) == line.linears.end()) {
        continue;
      }
      plan_.config_keys.emplace(line.key);
      plan_.linears.insert(line.linears.begin(), line.linears.end());
      return;
    }
    refuse_shift(concat("the run's shifts give ", name, " a bias, which model_type ",
                        family_.config().model_type, " has no place for"));
  }

  const models::Family& family_;  // borrowed for one plan_biases() call
  LinearInputs inputs_;
  BiasPlan plan_;
};

}  // namespace

std::set<std::string> shifted_pairs(const models::Family& family, const io::BlockStateStore& states,
                                    int blocks) {
  std::vector<std::string> pairs;
  for (const models::NormPair& pair : family.block().norm_pairs) pairs.push_back(pair.name);
  for (const models::ValuePair& pair : family.block().value_pairs) pairs.push_back(pair.name);
  std::set<std::string> shifted;
  for (int block = 0; block < blocks && shifted.size() < pairs.size(); ++block) {
    const io::TensorFile state = states.load_block(BlockIndex{block});
    for (const std::string& pair : pairs) {
      const auto shift = state.tensors.find(models::shift_name(pair));
      if (shift != state.tensors.end() && shift->second.ne(0).any().item<bool>()) {
        shifted.insert(pair);
      }
    }
  }
  return shifted;
}

BiasPlan plan_biases(const models::Family& family, const std::set<std::string>& shifted,
                     LinearInputs inputs) {
  return Planner(family, inputs).plan(shifted);
}

}  // namespace lrq::exporter

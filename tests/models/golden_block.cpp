// golden_block FILE...: run one block of a golden file (tests/data/golden/README.md) through the
// product's own folding, forward, loss and optimiser and compare every step with the published
// code's.  Exit 0: all within tolerance; 1: not; 2: no file named; 3: a file cannot be read.
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/adamw.h"
#include "src/quant/loss.h"
#include "tests/models/golden_case.h"

namespace lrq::models {
namespace {

constexpr double kOutputTolerance = 1e-5;     // rms of the difference over rms of the reference
constexpr double kLossTolerance = 1e-5;       // relative
constexpr double kCosineTolerance = 1e-4;     // 1 - cosine
constexpr double kNormTolerance = 1e-3;       // relative
constexpr double kLearnableTolerance = 5e-6;  // absolute
constexpr double kNoLimit = INFINITY;

/// Worst deviation of each group of tensors, and whether all of them are allowed.
class Report {
 public:
  void add(const std::string& group, const std::string& tensor, double deviation, double limit) {
    if (!groups_.contains(group)) order_.push_back(group);
    Line& line = groups_[group];
    line.limit = limit;
    ++line.tensors;
    if (line.tensor.empty() || !(deviation <= line.worst)) {
      line.worst = deviation;
      line.tensor = tensor;
    }
    if (!(deviation <= limit)) good_ = false;
  }
  void print() const {
    for (const std::string& group : order_) {
      const Line& line = groups_.at(group);
      std::cout << "  " << std::left << std::setw(28) << group << std::right << std::setw(4)
                << line.tensors << "  worst " << std::setw(10) << line.worst;
      if (std::isfinite(line.limit)) {
        std::cout << (line.worst <= line.limit ? "  <= " : "  ABOVE ") << line.limit;
      }
      std::cout << "  " << line.tensor << '\n';
    }
  }
  [[nodiscard]] bool good() const { return good_; }

 private:
  struct Line {
    std::string tensor;
    double worst = 0.0;
    double limit = 0.0;
    int tensors = 0;
  };
  std::map<std::string, Line> groups_;
  std::vector<std::string> order_;
  bool good_ = true;
};

double rms(const at::Tensor& x) { return x.to(at::kDouble).square().mean().sqrt().item<double>(); }

/// rms of the difference over rms of the reference; absolute where the reference is zero.
double relative_rms(const at::Tensor& found, const at::Tensor& reference) {
  const at::Tensor expected = reference.to(at::kDouble).reshape(found.sizes());
  const double size = rms(expected);
  return rms(found.detach().to(at::kDouble) - expected) / (size > 0.0 ? size : 1.0);
}

double largest(const at::Tensor& found, const at::Tensor& reference) {
  return (found.detach() - reference.reshape(found.sizes())).abs().max().item<double>();
}

double relative(double found, double reference) {
  return std::abs(found - reference) / std::max(std::abs(reference), 1e-30);
}

/// Leaves that are views of one flat vector, as the trainer keeps them.
struct Learned {
  NamedTensors leaves;
  at::Tensor flat;
  at::Tensor rates;
  std::vector<std::string> order;
};

Learned make_learned(const GoldenFile& file, const GoldenCase& golden) {
  Learned learned;
  std::vector<at::Tensor> values;
  std::vector<at::Tensor> rates;
  for (const auto& [name, start] : golden.init) {
    const bool clips = name.find("bound_factor") != std::string::npos;
    const double rate = clips ? golden.clipping_rate : golden.smoothing_rate;
    values.push_back(start.flatten());
    rates.push_back(at::full({start.numel()}, was_learned(file, name) ? rate : 0.0));
    learned.order.push_back(name);
  }
  learned.flat = values.empty() ? at::zeros({0}) : at::cat(values);
  learned.rates = rates.empty() ? at::zeros({0}) : at::cat(rates);
  std::int64_t begin = 0;
  for (const std::string& name : learned.order) {
    const at::Tensor& start = golden.init.at(name);
    learned.leaves[name] = learned.flat.narrow(0, begin, start.numel())
                               .view(start.sizes())
                               .detach()
                               .set_requires_grad(was_learned(file, name));
    begin += start.numel();
  }
  return learned;
}

void compare_start(const GoldenFile& file, const GoldenCase& golden, Report& report) {
  const NamedTensors start =
      initial_learnables(*golden.family, golden.weights, golden.statistics, golden.method);
  for (const auto& [name, tensor] : golden.init) {
    if (start.contains(name)) {
      report.add("init", name, relative_rms(start.at(name), tensor), kOutputTolerance);
    }
  }
  const at::Tensor out = golden.family->forward(
      plain_block(*golden.family, golden.weights, at::kFloat), file.tensor("input"), plain_sites());
  report.add("fp_output", "rms, relative", relative_rms(out, file.tensor("fp_output")),
             kOutputTolerance);
}

void compare_folded(const GoldenFile& file, const GoldenCase& golden, const NamedTensors& leaves,
                    const EffectiveBlock& folded, Report& report) {
  const auto compare = [&](const std::string& group, const std::string& name,
                           const at::Tensor& found, double limit) {
    const std::string full = concat(group, ".", name);
    if (!file.has(full)) return;
    const double deviation =
        found.defined() ? relative_rms(found, file.tensor(full)) : rms(file.tensor(full));
    report.add(group, name, deviation, limit);
  };
  for (const auto& [name, linear] : folded.linears) {
    // A value on the edge between two codes may fall to either side: shown, judged by the output.
    compare("init_qweight", name, linear.weight, kNoLimit);
    compare("init_bias", name, linear.bias, kOutputTolerance);
  }
  for (const auto& [name, norm] : folded.norms) {
    compare("init_norm_weight", name, norm.weight, kOutputTolerance);
  }
  if (golden.method.weight.identity()) return;
  for (const auto& [name, prepared] :
       prepared_weights(*golden.family, golden.weights, leaves, golden.method)) {
    const auto codes =
        quant::quantize_weight(prepared.weight, prepared.transform, golden.method.weight);
    compare("init_wscale", name, codes.step.reshape({-1}), kOutputTolerance);
    compare("init_wzero", name, codes.zero.reshape({-1}), kNoLimit);
  }
}

void compare_gradients(const GoldenFile& file, const Learned& learned, Report& report) {
  for (const auto& [name, leaf] : learned.leaves) {
    const std::string full = "grad1." + name;
    if (!file.has(full) || !leaf.grad().defined()) continue;
    const at::Tensor found = leaf.grad().to(at::kDouble).flatten();
    const at::Tensor expected = file.tensor(full).to(at::kDouble).flatten();
    const double norm = expected.norm().item<double>();
    const double found_norm = found.norm().item<double>();
    if (norm == 0.0) {
      report.add("gradient norm", name, found_norm, kNormTolerance);
      continue;
    }
    const double cosine = found.dot(expected).item<double>() / (norm * found_norm);
    report.add("gradient 1 - cosine", name, 1.0 - cosine, kCosineTolerance);
    report.add("gradient norm", name, relative(found_norm, norm), kNormTolerance);
  }
}

at::Tensor flat_gradient(const Learned& learned) {
  std::vector<at::Tensor> parts;
  for (const std::string& name : learned.order) {
    const at::Tensor& leaf = learned.leaves.at(name);
    parts.push_back(leaf.grad().defined() ? leaf.grad().flatten() : at::zeros({leaf.numel()}));
  }
  return at::cat(parts);
}

/// Deviation from the float32 reference, or from the float64 one if that is nearer: a value on the
/// edge between two codes falls to one side in the one and to the other in the other, and both are
/// the published code.
template <typename Deviation>
double nearest_deviation(const GoldenFile& file, const std::string& name, Deviation deviation) {
  const double from_float = deviation(file.tensor(name));
  const std::string exact = "f64." + name;
  return file.has(exact) ? std::min(from_float, deviation(file.tensor(exact))) : from_float;
}

double value_of(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).reshape({-1})[0].item<double>();
}

void compare_steps(const GoldenFile& file, const GoldenCase& golden, Report& report) {
  Learned learned = make_learned(file, golden);
  pipeline::AdamW optimizer(learned.flat, learned.rates, /*weight_decay=*/0.0);
  const at::Tensor& target = file.tensor("fp_output");
  for (int step = 1; step <= 3; ++step) {
    truncate_scales(learned.leaves, golden.method);
    const EffectiveBlock folded =
        fold(*golden.family, golden.weights, learned.leaves, golden.method, at::kFloat);
    const SiteFunction sites = quantizing_sites(*golden.family, golden.method, folded);
    const at::Tensor out = golden.family->forward(folded, file.tensor("input"), sites);
    if (step == 1) {
      compare_folded(file, golden, learned.leaves, folded, report);
      report.add("init_q_output", "rms, relative", relative_rms(out, file.tensor("init_q_output")),
                 kOutputTolerance);
    }
    const at::Tensor mse = quant::mse_loss(out, target);
    const at::Tensor nlc = quant::nlc_loss(out, target, {.absolute = true});
    const at::Tensor loss = mse * golden.mse_weight + nlc * golden.nlc_weight;
    const std::string prefix = concat("step", step, ".");
    const double found_loss = loss.item<double>();
    report.add("loss", prefix + "loss",
               nearest_deviation(
                   file, prefix + "loss",
                   [&](const at::Tensor& ref) { return relative(found_loss, value_of(ref)); }),
               kLossTolerance);
    if (!loss.requires_grad()) return;
    for (auto& item : learned.leaves) item.second.mutable_grad().reset();
    loss.backward();
    if (step == 1) compare_gradients(file, learned, report);
    const at::Tensor gradient = flat_gradient(learned);
    const double found_norm = gradient.norm().item<double>();
    report.add("grad_norm", prefix + "grad_norm",
               nearest_deviation(
                   file, prefix + "grad_norm",
                   [&](const at::Tensor& ref) { return relative(found_norm, value_of(ref)); }),
               kNormTolerance);
    optimizer.step(gradient, at::ones({}, at::kBool));
    for (const auto& [name, leaf] : learned.leaves) {
      const std::string full = concat("after", step, ".", name);
      if (file.has(full)) {
        report.add(concat("after", step), name,
                   nearest_deviation(file, full,
                                     [&](const at::Tensor& ref) { return largest(leaf, ref); }),
                   kLearnableTolerance);
      }
    }
  }
}

bool check(const std::string& path) {
  const GoldenFile file = read_golden_file(path);
  const GoldenCase golden = read_golden_case(file);
  Report report;
  compare_start(file, golden, report);
  compare_steps(file, golden, report);
  std::cout << path << (report.good() ? ": ok" : ": DIFFERS") << '\n';
  report.print();
  return report.good();
}

int run(int count, char** paths) {
  if (count == 0) {
    std::cerr << "usage: golden_block FILE...\n";
    return kExitUsage;
  }
  at::set_num_threads(1);
  bool good = true;
  try {
    for (int i = 0; i < count; ++i) good = check(paths[i]) && good;
  } catch (const Error& error) {
    std::cerr << format_error(error.text(), "golden_block") << '\n';
    return error.exit_code();
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace lrq::models

int main(int argc, char** argv) { return lrq::models::run(argc - 1, argv + 1); }

// Time a block step against the matrix products that it cannot do without; see bench/README.md.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <c10/core/GradMode.h>
#include <nlohmann/json.hpp>

#include "io/file_system.h"
#include "launch/recipe_library.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/models/family.h"
#include "src/models/quant_block.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/block_trainer.h"
#include "src/quant/observer.h"
#include "src/recipe/recipe_toml.h"

namespace lrq {
namespace {

constexpr int kWarmUpSteps = 3;
constexpr std::uint64_t kSeed = 2;

/// A block to time.
struct Shape {
  std::string name;
  models::ModelConfig config;
};

Shape smollm2() {
  return {.name = "smollm2",
          .config = {.model_type = "llama",
                     .hidden_size = 576,
                     .intermediate_size = 1536,
                     .num_hidden_layers = 1,
                     .num_attention_heads = 9,
                     .num_key_value_heads = 3,
                     .head_dim = 64,
                     .vocab_size = 49152,
                     .max_position_embeddings = 8192,
                     .rope_theta = 1e5,
                     .rope_scaling = {},
                     .sliding_window = {}}};
}

Shape llama2_7b() {
  return {.name = "llama2_7b",
          .config = {.model_type = "llama",
                     .hidden_size = 4096,
                     .intermediate_size = 11008,
                     .num_hidden_layers = 1,
                     .num_attention_heads = 32,
                     .num_key_value_heads = 32,
                     .head_dim = 128,
                     .vocab_size = 32000,
                     .max_position_embeddings = 4096,
                     .rope_theta = 1e4,
                     .rope_scaling = {},
                     .sliding_window = {}}};
}

recipe::Recipe w4a4() {
  recipe::Recipe recipe = cli::find_recipe("lrquant");
  recipe::set_field(recipe, "weights.bits=4");
  recipe::set_field(recipe, "activations.bits=4");
  recipe::validate(recipe);
  return recipe;
}

/// Random tensors, the same in every run.
class Draws {
 public:
  [[nodiscard]] at::Tensor normal(at::IntArrayRef sizes) {
    return at::randn(sizes, generator_, at::TensorOptions().dtype(at::kFloat).device(at::kCPU));
  }

 private:
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(kSeed);
};

/// The block's weights by name within the block, float32: of variance 1/I, norms around 1.
models::NamedTensors random_weights(const models::Family& family, Draws& draws) {
  const BlockIndex block{0};
  const std::size_t prefix = family.block_prefix(block).size();
  models::NamedTensors weights;
  for (const models::TensorSpec& spec : family.block_tensors(block)) {
    const at::Tensor values = draws.normal(spec.shape);
    weights.emplace(spec.name.substr(prefix),
                    spec.shape.size() == 1
                        ? 1.0 + 0.1 * values
                        : values / std::sqrt(static_cast<double>(spec.shape.back())));
  }
  return weights;
}

/// One block step with all that it needs: fold, forward, losses, backward, AdamW, emission.
class BlockStep {
 public:
  BlockStep(const models::Family& family, std::int64_t tokens, at::ScalarType compute) {
    const recipe::Recipe recipe = w4a4();
    const at::ScalarType store = pipeline::store_dtype(recipe, compute);
    Draws draws;
    const models::NamedTensors weights = random_weights(family, draws);
    input_[0] = draws.normal({1, tokens, family.config().hidden_size}).to(store);

    std::map<models::Site, quant::ChannelObserver> observers;
    const auto observe = [&observers](models::Site site, const at::Tensor& x) {
      if (x.dim() == 3) observers[site].observe(x);  // q, k and v after RoPE need no statistics
      return x;
    };
    const c10::NoGradGuard no_grad;
    target_[0] =
        family.forward(models::plain_block(family, weights, compute), input_[0], observe).to(store);
    models::NamedTensors statistics;
    for (const auto& [site, observer] : observers) {
      const std::string name(models::site_name(site));
      statistics.emplace(name + ".absmax", observer.absmax());
      statistics.emplace(name + ".shift", observer.shift());
    }
    const auto start =
        models::initial_learnables(family, weights, statistics, pipeline::block_method(recipe));
    trainer_ = std::make_unique<pipeline::BlockTrainer>(
        family, weights, start,
        pipeline::TrainSettings{.recipe = recipe, .compute = compute, .store = store});
  }

  void run() { outputs_ = trainer_->step(input_, target_, pipeline::BlockTrainer::Emit::kYes); }

  /// A masked step would have done less than a step does.
  void check() {
    expect(trainer_->end_epoch().masked == 0, "the loss of every timed step is finite");
  }

 private:
  std::array<at::Tensor, 1> input_;
  std::array<at::Tensor, 1> target_;
  std::vector<at::Tensor> outputs_;
  std::unique_ptr<pipeline::BlockTrainer> trainer_;
};

/// The matrix products of a block's linears, forward and backward, and nothing else:
///   y = x W^T,  dx = g W,  dW = g^T x
class MatrixProducts {
 public:
  MatrixProducts(const models::Family& family, std::int64_t tokens, at::ScalarType dtype) {
    Draws draws;
    std::map<models::Site, at::Tensor> inputs;  // linears of one site read the same tensor
    for (const models::LinearSpec& linear : family.block().linears) {
      at::Tensor& x = inputs[linear.input];
      if (!x.defined()) x = draws.normal({tokens, linear.in}).to(dtype);
      linears_.push_back({.weight = draws.normal({linear.out, linear.in}).to(dtype),
                          .input = x,
                          .gradient = draws.normal({tokens, linear.out}).to(dtype)});
    }
  }

  void run() {
    const c10::NoGradGuard no_grad;
    for (Linear& linear : linears_) {
      linear.output = at::linear(linear.input, linear.weight);
      linear.input_gradient = at::matmul(linear.gradient, linear.weight);
      linear.weight_gradient = at::matmul(linear.gradient.t(), linear.input);
    }
  }

 private:
  struct Linear {
    at::Tensor weight;
    at::Tensor input;
    at::Tensor gradient;
    at::Tensor output = {};  // kept until the next run, as a step keeps its own
    at::Tensor input_gradient = {};
    at::Tensor weight_gradient = {};
  };
  std::vector<Linear> linears_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

template <typename Work>
double milliseconds(Work& work) {
  const Stopwatch watch;
  work.run();
  return watch.seconds() * 1e3;
}

struct Timing {
  double step_ms = 0.0;
  double matmul_ms = 0.0;
  [[nodiscard]] double ratio() const { return step_ms / matmul_ms; }
};

Timing time_block(const Shape& shape, std::int64_t tokens, at::ScalarType dtype, int repeat) {
  const auto family = models::make_family(shape.config);
  BlockStep step(*family, tokens, dtype);
  MatrixProducts products(*family, tokens, dtype);
  std::vector<double> steps;
  std::vector<double> matmuls;
  for (int i = -kWarmUpSteps; i < repeat; ++i) {
    const double step_ms = milliseconds(step);  // in turn, so that a slow spell meets both
    const double matmul_ms = milliseconds(products);
    if (i < 0) continue;
    steps.push_back(step_ms);
    matmuls.push_back(matmul_ms);
  }
  step.check();
  return {.step_ms = median(steps), .matmul_ms = median(matmuls)};
}

struct Options {
  std::string json;
  int repeat = 21;
  std::int64_t tokens = 256;
  bool llama7b = false;
};

void run(const Options& options) {
  at::set_num_threads(1);
  std::vector<Shape> shapes = {smollm2()};
  if (options.llama7b) shapes.push_back(llama2_7b());
  std::printf("one thread, %lld tokens, W4A4 lrquant, medians of %d; %s\n",
              static_cast<long long>(options.tokens), options.repeat, cpu_vendor().c_str());
  std::printf("%-10s %-9s %10s %21s %6s\n", "block", "dtype", "step [ms]", "matrix products [ms]",
              "ratio");
  nlohmann::ordered_json result;
  for (const Shape& shape : shapes) {
    for (const auto& [name, dtype] :
         {std::pair("float32", at::kFloat), std::pair("bfloat16", at::kBFloat16)}) {
      const Timing timing = time_block(shape, options.tokens, dtype, options.repeat);
      std::printf("%-10s %-9s %10.2f %21.2f %6.2f\n", shape.name.c_str(), name, timing.step_ms,
                  timing.matmul_ms, timing.ratio());
      std::fflush(stdout);
      result[concat(shape.name, "_", name)] = {
          {"step_ms", timing.step_ms}, {"matmul_ms", timing.matmul_ms}, {"ratio", timing.ratio()}};
    }
  }
  if (options.json.empty()) return;
  const auto files = io::make_posix_file_system();
  io::write_atomically(*files, options.json, result.dump(2) + "\n");
}

}  // namespace
}  // namespace lrq

int main(int argc, char** argv) {
  lrq::keep_freed_memory();  // as the program does
  lrq::Options options;
  CLI::App app("Time a block step against its matrix products alone, on one thread.", "bench_step");
  app.add_option("--json", options.json, "write the result to this file");
  app.add_option("--repeat", options.repeat, "timed steps; their median counts")
      ->check(CLI::Range(15, 100000))
      ->capture_default_str();
  app.add_option("--tokens", options.tokens, "tokens of the one sample")
      ->check(CLI::Range(2, 4096))
      ->capture_default_str();
  app.add_flag("--llama7b", options.llama7b, "also a block of LLaMA-2-7B's shape");
  CLI11_PARSE(app, argc, argv);
  try {
    lrq::run(options);
    return 0;
  } catch (const lrq::Error& error) {
    std::fputs(lrq::format_error(error.text(), "bench_step").c_str(), stderr);
    return error.exit_code();
  }
}

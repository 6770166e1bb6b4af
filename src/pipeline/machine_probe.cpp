#include "src/pipeline/machine_probe.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "dist/collectives.h"
#include "io/activation_store.h"
#include "io/file_system.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/models/layers.h"
#include "src/models/quant_block.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/block_trainer.h"
#include "src/pipeline/cost_model.h"
#include "src/quant/fake_quant.h"

namespace lrq::pipeline {
namespace {

/// What is measured is the CPU, also where there are GPUs.
at::TensorOptions host_options(at::ScalarType dtype) { return at::device(at::kCPU).dtype(dtype); }

constexpr std::int64_t kTokens = 256;
constexpr std::int64_t kHidden = 576;
constexpr std::int64_t kInner = 1536;
constexpr std::int64_t kHeads = 9;

/// Seconds that this thread has computed: what another program takes of the core is not in it.
double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
double wall_seconds() {
  static const Stopwatch kWatch;
  return kWatch.seconds();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Seconds of one call by `clock`: the median of at least 3, over a tenth of a second, after a
/// warm-up.
double seconds_of(const std::function<void()>& work, double (*clock)() = thread_seconds) {
  work();
  const Stopwatch all;
  std::vector<double> times;
  while (times.size() < 3 || all.seconds() < 0.1) {
    const double start = clock();
    work();
    times.push_back(clock() - start);
  }
  return median(std::move(times));
}

models::ModelConfig config_of(std::int64_t hidden, std::int64_t inner, std::int64_t heads,
                              std::int64_t key_heads) {
  models::ModelConfig config;
  config.model_type = "llama";
  config.hidden_size = hidden;
  config.intermediate_size = inner;
  config.num_hidden_layers = 1;
  config.num_attention_heads = heads;
  config.num_key_value_heads = key_heads;
  config.head_dim = hidden / heads;
  config.vocab_size = 8;
  return config;
}

recipe::Recipe four_bits() {
  recipe::Recipe recipe;
  recipe.weights.bits = recipe.activations.bits = 4;
  return recipe;
}

class Probe {
 public:
  explicit Probe(dist::Transport& transport)
      : transport_(transport),
        folder_(std::filesystem::temp_directory_path() /
                concat("lrq-dist-probe-", ::getpid(), "-", transport.rank())) {}
  ~Probe() {
    std::error_code ignored;  // what is left there harms nobody
    std::filesystem::remove_all(folder_, ignored);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  Machine run() {
    machine_ = known_machine("cpu");
    machine_.storage = 0.0;
    machine_.source = concat("probed on ", transport_.size(), " ranks of this machine");
    measure_small_block(machine_);
    machine_.base_bytes = static_cast<double>(peak_memory_bytes());  // kernels are loaded by now
    machine_.memory_bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                            static_cast<double>(::sysconf(_SC_PAGESIZE)) / transport_.size();
    measure_computing();
    const at::Tensor large = at::ones({16 << 20}, host_options(at::kFloat));
    const at::Tensor copy = at::empty_like(large);
    machine_.memory_copy =
        static_cast<double>(large.nbytes()) / seconds_of([&] { copy.copy_(large); });
    measure_files();
    if (transport_.size() > 1) measure_messages();
    return slowest();
  }

 private:
  [[nodiscard]] at::Tensor normal(at::IntArrayRef sizes) {
    return at::randn(sizes, draws_, host_options(at::kFloat));
  }

  /// A shared machine is slower for a while and faster again, so all rates are taken in turn, some
  /// rounds long, and the median of each counts.
  void measure_computing() {
    constexpr int kRounds = 7;
    std::vector<Machine> rounds;
    for (int round = 0; round < kRounds; ++round) {
      Machine& now = rounds.emplace_back(machine_);
      measure_small_block(now);
      now.float32_products = product_rate(at::kFloat);
      now.bfloat16_products = product_rate(at::kBFloat16);
      now.attention = attention_rate();
      now.quantizer = quantizer_rate();
      now.elementwise = elementwise_rate();
      now.float32_step_factor = step_factor(now, at::kFloat);
      now.bfloat16_step_factor = step_factor(now, at::kBFloat16);
    }
    for (const auto field :
         {&Machine::learning_step_s, &Machine::forward_s, &Machine::float32_products,
          &Machine::bfloat16_products, &Machine::attention, &Machine::quantizer,
          &Machine::elementwise, &Machine::float32_step_factor, &Machine::bfloat16_step_factor}) {
      std::vector<double> found;
      for (const Machine& each : rounds) found.push_back(each.*field);
      machine_.*field = median(std::move(found));
    }
  }

  [[nodiscard]] models::NamedTensors random_weights(const models::Family& family) {
    models::NamedTensors weights;
    const std::size_t prefix = family.block_prefix(BlockIndex{0}).size();
    for (const auto& spec : family.block_tensors(BlockIndex{0})) {
      weights.emplace(spec.name.substr(prefix), normal(spec.shape));
    }
    return weights;
  }

  /// Seconds of a learning step of one block on one sample of so many tokens.
  [[nodiscard]] double step_seconds(const models::Family& family,
                                    const models::NamedTensors& weights, std::int64_t tokens,
                                    at::ScalarType dtype) {
    const auto& config = family.config();
    models::NamedTensors statistics;
    for (const char* site : {"qkv_in", "out_in", "mlp_in", "down_in"}) {
      const std::int64_t width =
          std::string_view(site) == "down_in" ? config.intermediate_size : config.hidden_size;
      statistics.emplace(concat(site, ".absmax"), at::ones({width}, host_options(at::kFloat)));
      statistics.emplace(concat(site, ".shift"), at::zeros({width}, host_options(at::kFloat)));
    }
    const recipe::Recipe recipe = four_bits();
    const models::BlockMethod method = block_method(recipe);
    BlockTrainer trainer(family, weights,
                         models::initial_learnables(family, weights, statistics, method),
                         {.recipe = recipe, .compute = dtype, .store = dtype});
    const std::array input{normal({1, tokens, config.hidden_size}).to(dtype)};
    return seconds_of([&] { (void)trainer.step(input, input, BlockTrainer::Emit::kYes); });
  }

  /// A block with next to nothing to compute: what is left is what a step costs to start.
  void measure_small_block(Machine& machine) {
    const auto family = models::make_family(config_of(16, 16, 2, 2));
    const models::NamedTensors weights = random_weights(*family);
    machine.learning_step_s = step_seconds(*family, weights, 2, at::kFloat);
    const models::EffectiveBlock plain = models::plain_block(*family, weights, at::kFloat);
    const at::Tensor input = normal({1, 2, 16});
    const c10::NoGradGuard no_grad;
    machine.forward_s =
        seconds_of([&] { (void)family->forward(plain, input, models::plain_sites()); });
  }

  /// A whole step by what the cost model makes of its parts.
  [[nodiscard]] double step_factor(Machine machine, at::ScalarType dtype) {
    machine.float32_step_factor = machine.bfloat16_step_factor = 1.0;
    const auto family = models::make_family(config_of(kHidden, kInner, kHeads, kHeads / 3));
    const int bytes = dtype == at::kFloat ? 4 : 2;
    const recipe::Recipe recipe = four_bits();
    const BlockWork work{.block = model_figures(*family).block,
                         .learnables = learnable_figures(*family, block_method(recipe)),
                         .recipe = recipe,
                         .tokens = kTokens,
                         .compute_bytes = bytes,
                         .store_bytes = bytes};
    return step_seconds(*family, random_weights(*family), kTokens, dtype) /
           learning_step(work, machine, 1).total();
  }

  /// Products of a linear forward and backward: y = x W^T, dx = g W, dW = g^T x.
  [[nodiscard]] double product_rate(at::ScalarType dtype) {
    const c10::NoGradGuard no_grad;
    const at::Tensor x = normal({kTokens, kHidden}).to(dtype);
    const at::Tensor weight = normal({kInner, kHidden}).to(dtype);
    const at::Tensor gradient = normal({kTokens, kInner}).to(dtype);
    const double seconds = seconds_of([&] {
      (void)at::linear(x, weight);
      (void)at::matmul(gradient, weight);
      (void)at::matmul(gradient.t(), x);
    });
    return 6.0 * kTokens * kInner * kHidden / seconds;
  }

  [[nodiscard]] double attention_rate() {
    std::vector<at::Tensor> parts;
    for (int i = 0; i < 3; ++i) {
      parts.push_back(normal({1, kHeads, kTokens, kHidden / kHeads}).requires_grad_());
    }
    const double seconds = seconds_of([&] {
      const at::Tensor y = models::attend(parts[0], parts[1], parts[2], {});
      (void)torch::autograd::grad({y}, parts, {at::ones_like(y)});
    });
    return 14.0 * kTokens * kTokens * kHidden / seconds;
  }

  [[nodiscard]] double quantizer_rate() {
    const at::Tensor weight = normal({kInner, kHidden});
    const auto leaf = [](std::int64_t length, double value) {
      return at::full({length}, value, host_options(at::kFloat)).requires_grad_();
    };
    const quant::WeightTransform transform{
        .column_scale = leaf(kHidden, 1.1),
        .row_scale = leaf(kInner, 0.9),
        .clip_upper = leaf(kInner, 0.95).unsqueeze(1).detach().requires_grad_(),
        .clip_lower = leaf(kInner, 0.95).unsqueeze(1).detach().requires_grad_()};
    const at::Tensor ones = at::ones_like(weight);
    const double seconds = seconds_of([&] {
      const at::Tensor y = quant::fake_quant_weight(weight, transform, {.bits = 4});
      (void)torch::autograd::grad(
          {y},
          {transform.column_scale, transform.row_scale, transform.clip_upper, transform.clip_lower},
          {ones});
    });
    return 4.0 * kFloatBytes * kInner * kHidden / seconds;
  }

  /// A norm, a residual and SiLU with its product, both ways, as cost_model.h counts them.
  [[nodiscard]] double elementwise_rate() {
    const at::Tensor x = normal({1, kTokens, kHidden}).requires_grad_();
    const at::Tensor weight = at::ones({kHidden}, host_options(at::kFloat)).requires_grad_();
    const at::Tensor bias = at::zeros({kHidden}, host_options(at::kFloat)).requires_grad_();
    const at::Tensor gate = normal({1, kTokens, kInner}).requires_grad_();
    const at::Tensor up = normal({1, kTokens, kInner}).requires_grad_();
    const at::Tensor hidden_ones = at::ones({1, kTokens, kHidden}, host_options(at::kFloat));
    const at::Tensor inner_ones = at::ones({1, kTokens, kInner}, host_options(at::kFloat));
    const double seconds = seconds_of([&] {
      const at::Tensor h = x + models::rms_norm(x, weight, bias, 1e-5);
      const at::Tensor product = at::silu(gate) * up;
      (void)torch::autograd::grad({h, product}, {x, weight, bias, gate, up},
                                  {hidden_ones, inner_ones});
    });
    return kFloatBytes * kTokens * (33.0 * kHidden + 14.0 * kInner) / seconds;
  }

  void measure_files() {
    const auto files = io::make_posix_file_system();
    files->create_directories(folder_);
    const at::Tensor half = at::ones({16 << 20}, host_options(at::kBFloat16));
    const std::span bytes(static_cast<const std::byte*>(half.const_data_ptr()), half.nbytes());
    const auto weights = folder_ / "weights";
    files->write(weights, bytes);
    const auto read_weights = [&] {
      const std::string text = files->read(weights);
      (void)at::from_blob(const_cast<char*>(text.data()), half.sizes(), host_options(at::kBFloat16))
          .to(at::kFloat);
    };
    machine_.checkpoint_read =
        static_cast<double>(half.nbytes()) / seconds_of(read_weights, wall_seconds);
    machine_.file_s =
        seconds_of([&] { io::write_atomically(*files, folder_ / "small", "x"); }, wall_seconds);
    io::ActivationStore store(*files, folder_, {.tokens = kTokens, .hidden = kHidden});
    const io::Boundary boundary{io::Chain::kQuantized, BoundaryIndex{1}};
    constexpr std::int64_t kSamples = 32;
    const at::Tensor sample = at::ones({1, kTokens, kHidden}, host_options(at::kFloat));
    const double all = static_cast<double>(kSamples) * static_cast<double>(sample.nbytes());
    const auto write_all = [&] {
      store.remove(boundary);
      const auto shard = store.create(boundary, Rank{0}, kSamples);
      for (std::int64_t i = 0; i < kSamples; ++i) {
        shard->write(i, sample);
      }
      shard->seal();
    };
    machine_.hdf5_write = all / seconds_of(write_all, wall_seconds);
    const auto reader = store.open(boundary, kSamples);
    const auto read_all = [&] {
      for (std::int64_t i = 0; i < kSamples; ++i) {
        (void)reader->read(i);
      }
    };
    machine_.hdf5_read = all / seconds_of(read_all, wall_seconds);
  }

  /// There and back between ranks 0 and 1: one message is half of it.
  void measure_messages() {
    const auto half_a_round = [this](std::int64_t length) {
      constexpr int kRounds = 50;
      const at::Tensor message = at::zeros({length}, host_options(at::kFloat));
      dist::barrier(transport_, "probe");
      const Stopwatch watch;
      for (int round = 0; round < kRounds && transport_.rank().value < 2; ++round) {
        const bool first = transport_.rank().value == 0;
        const Rank other{first ? 1 : 0};
        if (first) transport_.send(message, other, "probe")->wait();
        transport_.recv(message, other, "probe")->wait();
        if (!first) transport_.send(message, other, "probe")->wait();
      }
      return watch.seconds() / (2.0 * kRounds);
    };
    machine_.latency_s = half_a_round(1);
    constexpr std::int64_t kLength = 1 << 20;
    machine_.link = kFloatBytes * static_cast<double>(kLength) / half_a_round(kLength);
    machine_.network = machine_.link;
  }

  /// Rates of the slowest rank, times, factors and memory of the one that takes most.
  [[nodiscard]] Machine slowest() {
    const auto& fields = machine_fields();
    const at::Tensor mine =
        at::zeros({static_cast<std::int64_t>(fields.size())}, host_options(at::kDouble));
    for (std::size_t i = 0; i < fields.size(); ++i) {
      mine[static_cast<std::int64_t>(i)] = machine_.*fields[i].value;
    }
    const auto is_rate = [](std::string_view name) {
      return !name.ends_with("_s") && !name.ends_with("_factor") && name != "base_bytes";
    };
    // Ranks beyond the second take no part in the messages.
    const auto all = dist::gather(transport_, mine, Rank{0}, "probe");
    for (std::size_t rank = 1; rank < all.size(); ++rank) {
      for (std::size_t i = 0; i < fields.size(); ++i) {
        const std::string_view name = fields[i].name;
        if (rank > 1 && (name == "link" || name == "network" || name == "latency_s")) continue;
        double& value = machine_.*fields[i].value;
        const auto other = all[rank][static_cast<std::int64_t>(i)].item<double>();
        value = is_rate(name) ? std::min(value, other) : std::max(value, other);
      }
    }
    return machine_;
  }

  dist::Transport& transport_;
  std::filesystem::path folder_;
  at::Generator draws_ = at::make_generator<at::CPUGeneratorImpl>(2);
  Machine machine_;
};

}  // namespace

Machine probe_machine(dist::Transport& transport) { return Probe(transport).run(); }

}  // namespace lrq::pipeline

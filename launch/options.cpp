#include "launch/options.h"

#include <algorithm>
#include <array>

#include <CLI/CLI.hpp>

#include "launch/recipe_library.h"
#include "launch/validators.h"
#include "src/base/text.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::cli {
namespace {

struct ShortFlag {
  const char* option;
  const char* field;
  const char* help;
};

// Each is only the short spelling of a recipe field; new knobs are fields, set with --set.
constexpr std::array kShortFlags = {
    ShortFlag{"--wbits", "weights.bits", "weight bits, 2 .. 16 (16: not quantized)"},
    ShortFlag{"--abits", "activations.bits", "activation bits, 2 .. 16"},
    ShortFlag{"--kv-bits", "activations.kv_bits", "bits of keys and values (default: --abits)"},
    ShortFlag{"--epochs", "train.epochs", "passes over the samples, per block"},
    ShortFlag{"--batch-size", "train.batch_size", "samples one optimizer step sees"},
    ShortFlag{"--wave", "train.wave", "blocks that learn at the same time (1: published order)"},
    ShortFlag{"--emit", "train.emit", "pre|post: output before or after the step feeds the next"},
    ShortFlag{"--let-lr", "train.let_lr", "learning rate of smoothing scales and shifts"},
    ShortFlag{"--lwc-lr", "train.lwc_lr", "learning rate of clipping factors"},
    ShortFlag{"--wd", "train.wd", "weight decay"},
    ShortFlag{"--alpha", "smoothing.alpha", "exponent of the SmoothQuant start"},
    ShortFlag{"--block-size", "rotation.block_size",
              "channels that a rotation mixes (0: by width)"},
    ShortFlag{"--max-rotation-step", "rotation.steps", "steps that build a rotation"},
    ShortFlag{"--permutation-times", "rotation.permutations", "permutations between rotations"},
};

}  // namespace

void add_global_options(CLI::App& app, GlobalOptions& options) {
  app.add_option("--log-level", options.log_level, "debug, info, warning, error or off")
      ->capture_default_str();
  app.add_option("--json", options.json, "write the result to this file as JSON");
  app.add_option("--device", options.device,
                 "where calibrate and eval compute: cpu, cuda, or auto (a GPU if there is one)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--gpu-memory", options.gpu_memory,
                 "most memory that a rank's tensors may take of its GPU (70GB); NCCL's and CUDA's "
                 "own comes on top");
  app.add_option("--dtype", options.dtype,
                 "dtype of matrix products (auto: float32 on a CPU, bfloat16 on a GPU)")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "threads per rank; part of what makes bits equal")
      ->check(positive())
      ->capture_default_str();
  app.add_option("--transport", options.transport,
                 "mpi, nccl, or auto (nccl between GPUs, else mpi)")
      ->capture_default_str();
  app.add_option("--timeout", options.timeout_s, "seconds a rank waits for another")
      ->check(positive())
      ->capture_default_str();
}

void add_recipe_options(CLI::App& command, RecipeOptions& options) {
  command.add_option("--recipe", options.recipe, "recipe name or TOML file (lrq-dist recipe list)")
      ->capture_default_str();
  for (const ShortFlag& flag : kShortFlags) {
    const std::string field = flag.field;
    command.add_option_function<std::string>(
        flag.option,
        [&options, field](const std::string& value) {
          options.short_flags.emplace_back(field, value);
        },
        concat(flag.help, "  [", field, "]"));
  }
  command.add_option_function<int>(
      "--group-size",
      [&options](int size) {
        options.short_flags.emplace_back("weights.per", size > 0 ? "group" : "channel");
        if (size > 0) options.short_flags.emplace_back("weights.group_size", std::to_string(size));
      },
      "weights that share a range; -1: a whole output channel  [weights.per, weights.group_size]");
  command.add_flag_callback(
      "--symmetric", [&options] { options.short_flags.emplace_back("weights.symmetric", "true"); },
      "symmetric weight ranges  [weights.symmetric]");
  command.add_option("--set", options.assignments, "set a recipe field: table.field=value")
      ->allow_extra_args(false);
}

void add_resident_blocks_option(CLI::App& command, int& blocks) {
  command
      .add_option("--resident-blocks", blocks,
                  "blocks of a rank whose weights are in memory at the same time (default: all); "
                  "never changes bits")
      ->check(positive());
}

recipe::Recipe merged_recipe(const RecipeOptions& options) {
  recipe::Recipe recipe = find_recipe(options.recipe);
  for (const auto& [field, value] : options.short_flags) {
    recipe::set_field(recipe, concat(field, "=", value));
  }
  for (const std::string& assignment : options.assignments) {
    recipe::set_field(recipe, assignment);
  }
  if (options.only_quant_kv) {
    auto& activations = recipe.activations;
    if (activations.kv_bits == 0) activations.kv_bits = activations.bits;
    activations.bits = 16;
  }
  return recipe;
}

std::vector<std::string> normalised_arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  for (std::string& argument : arguments) {
    if (!argument.starts_with("--")) continue;
    std::replace(argument.begin(),
                 argument.begin() +
                     static_cast<std::ptrdiff_t>(std::min(argument.find('='), argument.size())),
                 '_', '-');
  }
  return arguments;
}

}  // namespace lrq::cli

#include "launch/published_flags.h"

#include <array>
#include <span>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::cli {
namespace {

using Assignments = std::vector<std::pair<const char*, const char*>>;

struct Switch {
  const char* option;
  Assignments fields;  ///< recipe fields that it sets
};

/// Flags without a value that are recipe fields here.
const std::vector<Switch>& switches() {
  static const std::vector<Switch> kSwitches = {
      {"--let", {{"smoothing.scale", "learned"}}},
      {"--no-let",
       {{"smoothing.scale", "off"}, {"smoothing.shift", "off"}, {"smoothing.qk", "off"}}},
      {"--lwc", {{"weights.clip", "learned"}}},
      {"--no-lwc", {{"weights.clip", "none"}}},
      {"--aug-loss", {{"loss.mse_r", "1.0"}}},
      {"--lr-plus",
       {{"loss.mse_r", "1.0"}, {"loss.nlc_r", "1.0"}, {"rotation_vectors.form", "row"}}},
      {"--disable-zero-point", {{"weights.zero_point", "false"}}},
      {"--lh", {{"rotation.householder", "learned"}}},
      {"--a-dynamic", {{"clusters.dynamic", "true"}}},
      {"--disable-w-quant", {{"weights.bits", "16"}}},
      {"--disable-a-quant", {{"activations.bits", "16"}, {"activations.kv_bits", "16"}}},
  };
  return kSwitches;
}

/// Options with a value that are a recipe field here.
struct Renamed {
  const char* option;
  const char* field;
  Assignments values = {};  ///< their spelling of a value, ours; none: the value as it is
};

const std::vector<Renamed>& renamed() {
  static const std::vector<Renamed> kRenamed = {
      {"--R1-clusters", "clusters.norms"},
      {"--R2-clusters", "clusters.heads"},
      {"--R3-clusters", "clusters.heads"},
      {"--R4-clusters", "clusters.norms"},
      {"--R5-clusters", "clusters.mlp"},
      {"--reorder", "clusters.sites"},
      {"--percdamp", "gptq.damping"},
      {"--swc", "weights.clip"},
      {"--lac", "activations.clip"},
      {"--lh-lr", "rotation.lr"},
      {"--random-permutation-times", "rotation.random_permutations"},
      {"--metric", "clusters.range", {{"minmax", "minmax"}, {"ema_minmax", "ema"}}},
      {"--w-quantizer", "weights.rounding", {{"gptq", "gptq"}, {"normal", "nearest"}}},
  };
  return kRenamed;
}

std::string our_value(const Renamed& flag, const std::string& given) {
  if (flag.values.empty()) return given;
  std::vector<std::string> known;
  for (const auto& [theirs, ours] : flag.values) {
    if (given == theirs) return ours;
    known.emplace_back(theirs);
  }
  throw UsageError(
      {.what = concat(flag.option, " is ", given, ", expected one of ", join(known, ", ")),
       .where = "command line",
       .fix = concat("set ", flag.field, " with --set")});
}

/// One field may stand for two of their options, which then have to agree.
void add_renamed(CLI::App& command, RecipeOptions& options) {
  for (const Renamed& flag : renamed()) {
    command
        .add_option_function<std::string>(
            flag.option,
            [&options, &flag](const std::string& given) {
              const std::string value = our_value(flag, given);
              for (const auto& [field, before] : options.short_flags) {
                if (field != flag.field || before == value) continue;
                throw UsageError(
                    {.what = concat(flag.option, " is ", value, ", and ", flag.field, " is ",
                                    before, " already: one field here"),
                     .where = "command line",
                     .fix = concat("give both the same value, or --set ", flag.field)});
              }
              options.short_flags.emplace_back(flag.field, value);
            })
        ->group("");
  }
}

/// An option that does not exist here, and what to do instead.
struct Refused {
  const char* option;
  const char* instead;
};

constexpr std::array kRefusedByCalibrate = {
    Refused{"--output-dir", "name the folder of the run with --run"},
    Refused{"--save-dir",
            "write the model afterwards: lrq-dist export --run RUN --format hf --out DIR"},
    Refused{"--real-quant",
            "pack the weights afterwards: lrq-dist export --run RUN --format FORMAT --out DIR"},
    Refused{"--calib-dataset", "give the text, or its token ids, as files: --calib FILE"},
    Refused{"--cache-dir", "leave it out; lrq-dist tokenize keeps token ids for many runs"},
    Refused{"--eval-ppl", "evaluate afterwards: lrq-dist eval --run RUN --ppl FILE"},
    Refused{"--tasks", "evaluate afterwards: lrq-dist eval --run RUN --tasks FILE"},
    Refused{"--num-fewshot", "evaluate afterwards: lrq-dist eval --run RUN --tasks FILE"},
    Refused{"--limit", "evaluate afterwards: lrq-dist eval --run RUN --ppl FILE --limit N"},
    Refused{"--tta", "adapt while evaluating: lrq-dist eval --run RUN --ppl FILE --tta"},
    Refused{"--tta-shifts", "leave it out: the adapted block starts without shifts"},
    Refused{"--act-scales", "leave it out: statistics are collected in the run (RUN/stats)"},
    Refused{"--act-shifts", "leave it out: statistics are collected in the run (RUN/stats)"},
    Refused{"--multigpu", "start more ranks: mpirun -n N lrq-dist ..."},
    Refused{"--pack-weight",
            "pack the weights afterwards: lrq-dist export --run RUN --format FORMAT --out DIR"},
    Refused{"--load", "name the model's folder with --model"},
    Refused{"--output-path", "name the folder of the run with --run"},
    Refused{"--eval-base-ppl", "evaluate the model itself: lrq-dist eval --model DIR --ppl FILE"},
    Refused{"--act-dist-plot", "leave it out"},
    Refused{"--net", "leave it out: the family is read from the model's config.json"},
    Refused{"--attn-implementation", "leave it out: attention is always causal"},
    Refused{"--smooth", "name a recipe that smooths: --recipe duquant"},
    Refused{"--smooth-epochs", "learn smoothing with the rest: --set smoothing.scale=learned"},
    Refused{"--let-alpha", "leave it out: no scale is learned behind the rotations"},
};

constexpr std::array kRefusedByEval = {
    Refused{"--eval-ppl", "name the text: --ppl FILE"},
    Refused{"--output-dir", "name the folder of the run with --run"},
    Refused{"--multigpu", "start more ranks: mpirun -n N lrq-dist ..."},
    Refused{"--net", "leave it out: the family is read from the model's config.json"},
};

void add_refused(CLI::App& command, std::span<const Refused> flags) {
  for (const Refused& flag : flags) {
    command
        .add_option_function<std::vector<std::string>>(
            flag.option,
            [&flag](const std::vector<std::string>&) {
              throw UsageError({.what = concat("the published programs' option ", flag.option,
                                               " does not exist here"),
                                .where = "command line",
                                .fix = flag.instead});
            })
        ->expected(0, CLI::detail::expected_max_vector_size)
        ->group("");
  }
}

/// An option with only one possible value, which is what happens here anyway.
void add_only_choice(CLI::App& command, const char* option, const char* choice) {
  command.add_option(option)->check(CLI::IsMember(std::vector<std::string>{choice}))->group("");
}

}  // namespace

void add_published_flags(CLI::App& command, RecipeOptions& options) {
  for (const Switch& flag : switches()) {
    command
        .add_flag_callback(flag.option,
                           [&options, &flag] {
                             for (const auto& [field, value] : flag.fields) {
                               options.short_flags.emplace_back(field, value);
                             }
                           })
        ->group("");
  }
  command
      .add_option_function<std::string>(
          "--rotate-rank",
          [&options](const std::string& rank) {
            options.short_flags.emplace_back("rotation_vectors.form", "outer");
            options.short_flags.emplace_back("rotation_vectors.rank", rank);
          })
      ->group("");
  command.add_flag_callback("--only-quant-kv", [&options] { options.only_quant_kv = true; })
      ->group("");
  add_renamed(command, options);
  add_only_choice(command, "--a-dynamic-method", "per_token");
  add_only_choice(command, "--w-dynamic-method", "per_channel");
  // Matrix products in the model's own float32: what our CPU runs do unless --dtype says otherwise.
  command.add_flag_callback("--deactive-amp", [&options] { options.float32_products = true; })
      ->group("");
  add_refused(command, kRefusedByCalibrate);
}

void add_published_eval_flags(CLI::App& command) { add_refused(command, kRefusedByEval); }

}  // namespace lrq::cli

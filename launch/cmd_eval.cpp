#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include <ATen/ATen.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "dist/collectives.h"
#include "io/block_state_store.h"
#include "io/file_system.h"
#include "io/token_file.h"
#include "launch/commands.h"
#include "launch/eval_inputs.h"
#include "launch/eval_tasks.h"
#include "launch/published_flags.h"
#include "launch/recipe_library.h"
#include "launch/validators.h"
#include "src/base/error.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/eval/perplexity.h"
#include "src/pipeline/block_method.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::cli {
namespace {

using nlohmann::ordered_json;

struct EvalOptions {
  std::string model;
  std::string run;
  std::vector<std::string> texts;
  std::int64_t seqlen = 2048;
  std::int64_t limit = 0;
  TaskOptions tasks;
  int kv_bits = 0;                       ///< 0: as calibrated; the original: not quantized
  int resident_blocks = 0;               ///< of a rank, in memory at the same time; 0: all
  bool adapt = false;                    ///< --tta
  std::vector<std::string> assignments;  ///< --set tta.field=value
};

std::vector<std::uint64_t> peak_memory_of_ranks(dist::Transport& transport) {
  const at::Tensor mine = at::tensor({static_cast<double>(peak_memory_bytes())},
                                     at::device(at::kCPU).dtype(at::kDouble));
  std::vector<std::uint64_t> peaks;
  for (const at::Tensor& peak : dist::gather(transport, mine, Rank{0}, "usage")) {
    peaks.push_back(static_cast<std::uint64_t>(peak[0].item<double>()));
  }
  return peaks;
}

void print_perplexity(const EvalText& text, double value, const std::string& how) {
  std::printf("%s: perplexity %.4f%s  (%lld windows of %lld tokens, %s)\n", text.name.c_str(),
              value, how.c_str(), static_cast<long long>(text.windows.size(0)),
              static_cast<long long>(text.windows.size(1)), text.bos.c_str());
}

/// "init=start scope=set ...": what belongs beside every adapted number.
std::string adaptation_text(const recipe::Recipe& recipe) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : recipe::fields(recipe)) {
    if (name.starts_with("tta.")) parts.push_back(concat(name.substr(4), "=", value));
  }
  return join(parts, " ");
}

/// Perplexity of every text; adds to "ppl" and "settings" on rank 0.  texts: empty ones elsewhere.
/// adapting: the recipe of the run, whose last block adapts to each text; null: it does not.
void run_texts(eval::Evaluator& evaluator, const std::vector<EvalText>& texts, bool first_rank,
               const recipe::Recipe* adapting, const std::string& calibrated_on,
               dist::Transport& transport, ordered_json& result) {
  for (const EvalText& text : texts) {
    const bool may_skip = adapting != nullptr && adapting->tta.skip_calib_set;
    const bool same =
        first_rank && may_skip && io::tokens_fingerprint(text.windows) == calibrated_on;
    const bool skipped =
        may_skip &&
        !dist::broadcast_text(transport, same ? "same" : "", Rank{0}, "adapt or not").empty();
    eval::Evaluator::AdaptedLosses losses;
    if (adapting != nullptr && !skipped) {
      losses = evaluator.adapted_window_losses(text.windows);
    } else {
      losses.plain = evaluator.window_losses(text.windows);
    }
    if (!first_rank) continue;
    ordered_json& settings = result["settings"];
    result["ppl"][text.name] = eval::perplexity(losses.plain);
    settings["windows"][text.name] = text.windows.size(0);
    settings["seqlen"] = text.windows.size(1);
    settings["bos"][text.name] = text.bos;
    print_perplexity(text, eval::perplexity(losses.plain), "");
    if (skipped) {
      std::printf("%s: not adapted, it is the calibration set (tta.skip_calib_set)\n",
                  text.name.c_str());
    }
    if (losses.adapted.empty()) continue;
    result["ppl_adapted"][text.name] = eval::perplexity(losses.adapted);
    print_perplexity(text, eval::perplexity(losses.adapted), " adapted");
  }
}

/// Throws UsageError.
void check_kv_bits(const recipe::Recipe& recipe) {
  const auto& activations = recipe.activations;
  const int calibrated = activations.kv_bits == 0 ? activations.bits : activations.kv_bits;
  if (recipe.clusters.kind == recipe::ClusterKind::kOff || recipe.clusters.dynamic ||
      calibrated < 16) {
    return;
  }
  throw UsageError({.what =
                        "keys and values of this run have no ranges: it was calibrated to leave "
                        "them unquantized, and clusters have fixed ones (clusters.kind)",
                    .where = "option --kv-bits",
                    .fix = "leave --kv-bits out, or calibrate with --kv-bits"});
}

/// The recipe to evaluate with: the run's, with other bits of keys and values where they are asked
/// for; of the original model none, or one that quantizes nothing else.
std::optional<recipe::Recipe> recipe_of(const std::optional<FinishedRun>& run,
                                        const EvalOptions& options) {
  std::optional<recipe::Recipe> recipe;
  if (run) recipe = run->recipe;
  if (options.kv_bits > 0) {
    if (recipe) {
      check_kv_bits(*recipe);
    } else {
      recipe = find_recipe("rtn");
      recipe->weights.bits = 16;
    }
    recipe->activations.kv_bits = options.kv_bits;
    recipe->activations.quantize_kv = true;
  }
  if (!recipe) return recipe;
  for (const std::string& assignment : options.assignments) {
    recipe::set_field(*recipe, assignment);
  }
  recipe::validate(*recipe);
  return recipe;
}

/// Throws UsageError.
void check_adaptable(const recipe::Recipe& recipe) {
  if (recipe.clusters.kind == recipe::ClusterKind::kOff) return;
  throw UsageError({.what = "--tta learns a block, and this run's blocks have clusters with fixed "
                            "ranges (clusters.kind)",
                    .where = "command line",
                    .fix = "leave --tta out"});
}

void run_eval(Session& session, const EvalOptions& options) {
  const Stopwatch watch;
  const auto files = io::make_posix_file_system();
  dist::Transport& transport = session.transport();
  const auto task_paths = task_files(options.tasks, *files);
  std::optional<FinishedRun> run;
  if (!options.run.empty()) run = open_run(*files, options.run);
  const pipeline::ModelSource model(
      std::filesystem::path(options.model.empty() ? run->model : options.model),
      run ? run->blocks : 0, session.device());
  check_subject(model, run, transport.size());
  const auto recipe = recipe_of(run, options);
  if (recipe && options.adapt) check_adaptable(*recipe);
  std::vector<EvalText> texts(options.texts.size());
  ZeroShot zero_shot;
  if (session.first_rank()) {  // whatever is wrong with a file shows before the model is loaded
    model.check();
    texts = open_texts(options.texts, model, *files, options.seqlen, options.limit);
    zero_shot = open_tasks(options.tasks, task_paths, model, *files);
  }

  const io::BlockStateStore states(*files, options.run);
  const at::ScalarType compute = run ? session.dtype(run->dtype) : session.usual_dtype();
  eval::Evaluator evaluator(transport,
                            {.model = model,
                             .recipe = recipe ? &*recipe : nullptr,
                             .states = run ? &states : nullptr,
                             .compute = compute,
                             .store = run ? pipeline::store_dtype(*recipe, compute) : compute,
                             .resident_blocks = options.resident_blocks});
  ordered_json result = {{"ppl", ordered_json::object()},
                         {"tasks", ordered_json::object()},
                         {"settings",
                          {{"subject", run ? options.run : options.model},
                           {"dtype", compute == at::kBFloat16 ? "bfloat16" : "float32"},
                           {"device", session.device().is_cpu() ? "cpu" : "cuda"},
                           {"ranks", transport.size()}}}};
  if (options.kv_bits > 0) result["settings"]["kv_bits"] = options.kv_bits;
  run_texts(evaluator, texts, session.first_rank(), options.adapt ? &*recipe : nullptr,
            run ? run->identity.at("tokens") : std::string(), transport, result);
  if (!task_paths.empty()) {
    const std::int64_t positions = model.config().max_position_embeddings;
    const std::int64_t window =
        positions > 0 ? std::min(options.seqlen, positions) : options.seqlen;
    ordered_json scored = run_tasks(evaluator, zero_shot, task_paths.size(), options.tasks, *files,
                                    options.adapt ? window : 0);
    if (session.first_rank()) {
      result["settings"]["zero_shot"] = scored["settings"];
      scored.erase("settings");
      result.update(scored);
    }
  }
  if (session.first_rank() && options.adapt) {
    const std::string how = adaptation_text(*recipe);
    result["settings"]["tta"] = how;
    std::printf("adaptation of the last block: %s\n", how.c_str());
  }
  result["seconds"] = watch.seconds();
  result["peak_memory_bytes"] = peak_memory_of_ranks(transport);
  session.write_json(result.dump(2));
}

void add_task_options(CLI::App& command, EvalOptions& options) {
  TaskOptions& tasks = options.tasks;
  command
      .add_option("--tasks", tasks.names,
                  "zero-shot tasks: .jsonl files, or names in --task-dir (* and ? allowed)")
      ->delimiter(',');
  command.add_option("--task-dir,--tasks-folder", tasks.folder, "folder of <task>.jsonl files");
  command.add_option("--num-fewshot", tasks.fewshot, "examples before each question: 0 only");
  command
      .add_option("--zero-shot-tokenize", tasks.tokenize,
                  "context and continuation: together, or separate (published code: no BOS)")
      ->check(CLI::IsMember({"together", "separate"}))
      ->capture_default_str();
  command.add_option("--log-likelihoods", tasks.log_likelihoods,
                     "write every choice's log-likelihood to this file, one JSON object a line");
}

/// Throws UsageError.
void check_adaptation(const EvalOptions& options) {
  if (options.adapt && options.run.empty()) {
    throw UsageError({.what = "--tta adapts the last block of a run, and no run is given",
                      .where = "command line",
                      .fix = "name the run directory with --run"});
  }
  for (const std::string& assignment : options.assignments) {
    if (assignment.starts_with("tta.")) continue;
    throw UsageError({.what = concat("--set ", assignment, " would change a finished run"),
                      .where = "command line",
                      .fix = "set fields of the table tta here, the others in calibrate"});
  }
}

}  // namespace

void add_eval_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand(
      "eval", "Perplexity and zero-shot scores of a model or of a finished run, over all ranks");
  auto* model = command->add_option("--model", options->model,
                                    "Hugging Face model folder (with --run: if it has moved)");
  auto* run = command->add_option("--run", options->run, "run directory of a finished calibration");
  auto* texts = command->add_option("--ppl", options->texts, "text files, or files of token ids");
  command->add_option("--seqlen", options->seqlen, "tokens per window")
      ->check(CLI::Range(2, 1 << 30))
      ->capture_default_str();
  command
      ->add_option("--limit", options->limit,
                   "only the first so many windows of a text, and documents of a task")
      ->check(not_negative());
  command
      ->add_option("--kv-bits", options->kv_bits,
                   "quantize keys and values to so many bits (default: as calibrated; of the "
                   "original model: not at all)")
      ->check(CLI::Range(2, 16));
  add_resident_blocks_option(*command, options->resident_blocks);
  add_task_options(*command, *options);
  auto* adapt = command->add_flag(
      "--tta", options->adapt,
      "also adapt the run's last block to the unlabelled text, and score again  [tta]");
  command
      ->add_option("--set", options->assignments,
                   "set a field of the recipe's table tta: tta.field=value")
      ->allow_extra_args(false)
      ->needs(adapt);
  add_published_eval_flags(*command);
  command->callback([options, &chosen, model, run, texts] {
    if (model->count() == 0 && run->count() == 0) {
      throw CLI::RequiredError("--model or --run");
    }
    if (texts->count() == 0 && options->tasks.names.empty()) {
      throw CLI::RequiredError("--ppl or --tasks");
    }
    check_adaptation(*options);
    options->tasks.limit = options->limit;
    chosen.tensors = TensorsOf::kDevice;
    chosen.collective = [options](Session& session) { run_eval(session, *options); };
  });
}

}  // namespace lrq::cli

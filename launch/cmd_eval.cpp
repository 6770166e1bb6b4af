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
#include "io/run_manifest.h"
#include "io/token_file.h"
#include "io/tokenizer.h"
#include "launch/commands.h"
#include "src/base/error.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/eval/perplexity.h"
#include "src/pipeline/block_method.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::cli {
namespace {

struct EvalOptions {
  std::string model;
  std::string run;
  std::vector<std::string> texts;
  std::int64_t seqlen = 2048;
  std::int64_t limit = 0;
};

/// A finished run, as evaluation needs it.
struct FinishedRun {
  recipe::Recipe recipe;
  std::string model;
  int blocks = 0;
  at::ScalarType dtype = at::kFloat;
};

FinishedRun open_run(const io::FileSystem& files, const std::string& run) {
  const auto manifest = io::load_manifest(files, run);
  if (!manifest) {
    throw DataError({.what = "the folder holds no run.json",
                     .where = run,
                     .fix = "name the run directory that lrq-dist calibrate wrote"});
  }
  if (!manifest->finished) {
    throw DataError({.what = "the run is not finished",
                     .where = run,
                     .fix = "finish it: the same calibrate command with --resume"});
  }
  FinishedRun found;
  found.recipe = recipe::parse_recipe(manifest->about.at("recipe_toml"), run + "/run.json",
                                      [](const std::string&) { return std::nullopt; });
  found.model = manifest->about.at("model_folder");
  found.blocks = std::stoi(manifest->about.at("blocks"));
  found.dtype = manifest->identity.at("dtype") == "bfloat16" ? at::kBFloat16 : at::kFloat;
  return found;
}

at::Tensor token_stream(const std::string& path, const pipeline::ModelSource& model,
                        const io::FileSystem& files) {
  if (io::is_token_file(path)) {
    return io::read_token_file(path, model.config().vocab_size).reshape({-1});
  }
  auto ids =
      io::open_tokenizer(model.folder())->encode(files.read(path), io::Tokenizer::AddSpecial::kYes);
  return at::from_blob(ids.data(), {static_cast<std::int64_t>(ids.size())}, at::kInt).clone();
}

std::string bos_policy(const pipeline::ModelSource& model, const std::vector<std::string>& texts) {
  for (const std::string& path : texts) {
    if (!io::is_token_file(path)) {
      const auto bos = io::open_tokenizer(model.folder())->bos();
      return bos ? concat("one BOS (", *bos, ") at the start of the text") : "no BOS";
    }
  }
  return "as in the token file";
}

void run_eval(Session& session, const EvalOptions& options) {
  const Stopwatch watch;
  const auto files = io::make_posix_file_system();
  dist::Transport& transport = session.transport();
  std::optional<FinishedRun> run;
  if (!options.run.empty()) run = open_run(*files, options.run);
  const pipeline::ModelSource model(
      std::filesystem::path(options.model.empty() ? run->model : options.model),
      run ? run->blocks : 0);
  if (transport.size() > model.blocks()) {
    throw UsageError(
        {.what = concat(transport.size(), " ranks, and the model has ", model.blocks(), " blocks"),
         .where = "number of ranks (mpirun -n)",
         .fix = concat("use at most ", model.blocks(), " ranks")});
  }
  if (session.first_rank()) model.check();
  const io::BlockStateStore states(*files, options.run);
  const at::ScalarType compute = session.dtype(run ? run->dtype : at::kFloat);
  const std::int64_t longest = model.config().max_position_embeddings;
  const std::int64_t seqlen = longest > 0 ? std::min(options.seqlen, longest) : options.seqlen;
  eval::Evaluator evaluator(transport,
                            {.model = model,
                             .recipe = run ? &run->recipe : nullptr,
                             .states = run ? &states : nullptr,
                             .compute = compute,
                             .store = run ? pipeline::store_dtype(run->recipe, compute) : compute});

  nlohmann::ordered_json ppl = nlohmann::ordered_json::object();
  std::int64_t windows_scored = 0;
  for (const std::string& path : options.texts) {
    at::Tensor windows;
    if (session.first_rank()) {
      windows = eval::cut_into_windows(token_stream(path, model, *files), seqlen, options.limit);
      windows_scored += windows.size(0);
    }
    const double value = eval::perplexity(evaluator.window_losses(windows));
    ppl[std::filesystem::path(path).stem().string()] = value;
    if (session.first_rank()) {
      std::printf("%s: perplexity %.4f  (%lld windows of %lld tokens, %s)\n", path.c_str(), value,
                  static_cast<long long>(windows.size(0)), static_cast<long long>(seqlen),
                  bos_policy(model, {path}).c_str());
    }
  }
  const at::Tensor mine = at::tensor({static_cast<double>(peak_memory_bytes())}, at::kDouble);
  std::vector<std::uint64_t> peaks;
  for (const at::Tensor& peak : dist::gather(transport, mine, Rank{0}, "usage")) {
    peaks.push_back(static_cast<std::uint64_t>(peak[0].item<double>()));
  }
  if (!session.first_rank()) return;
  session.write_json(nlohmann::ordered_json{
      {"ppl", ppl},
      {"settings",
       {{"subject", run ? options.run : options.model},
        {"seqlen", seqlen},
        {"limit", options.limit},
        {"windows", windows_scored},
        {"bos", bos_policy(model, options.texts)},
        {"dtype", compute == at::kBFloat16 ? "bfloat16" : "float32"},
        {"ranks", transport.size()}}},
      {"seconds", watch.seconds()},
      {"peak_memory_bytes",
       peaks}}.dump(2));
}

}  // namespace

void add_eval_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command =
      app.add_subcommand("eval", "Perplexity of a model or of a finished run, over all ranks");
  auto* model = command->add_option("--model", options->model,
                                    "Hugging Face model folder (with --run: if it has moved)");
  auto* run = command->add_option("--run", options->run, "run directory of a finished calibration");
  command->add_option("--ppl", options->texts, "text files, or files of token ids")->required();
  command->add_option("--seqlen", options->seqlen, "tokens per window")
      ->check(CLI::Range(2, 1 << 30))
      ->capture_default_str();
  command->add_option("--limit", options->limit, "score only the first so many windows")
      ->check(CLI::NonNegativeNumber);
  command->callback([options, &chosen, model, run] {
    if (model->count() == 0 && run->count() == 0) {
      throw CLI::RequiredError("--model or --run");
    }
    chosen.collective = [options](Session& session) { run_eval(session, *options); };
  });
}

}  // namespace lrq::cli

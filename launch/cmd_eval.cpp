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
#include "io/tokenizer.h"
#include "launch/commands.h"
#include "launch/finished_run.h"
#include "src/base/error.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/eval/perplexity.h"
#include "src/pipeline/block_method.h"

namespace lrq::cli {
namespace {

struct EvalOptions {
  std::string model;
  std::string run;
  std::vector<std::string> texts;
  std::int64_t seqlen = 2048;
  std::int64_t limit = 0;
};

/// A text cut into windows, and what its tokens begin with.
struct EvalText {
  std::string name;  ///< file stem: its key in the JSON
  at::Tensor windows;
  std::string bos;
};

EvalText open_text(const std::string& path, const pipeline::ModelSource& model,
                   const io::FileSystem& files, const EvalOptions& options) {
  EvalText text{.name = std::filesystem::path(path).stem().string(), .windows = {}, .bos = {}};
  const std::int64_t longest = model.config().max_position_embeddings;
  const std::int64_t seqlen = longest > 0 ? std::min(options.seqlen, longest) : options.seqlen;
  at::Tensor stream;
  if (io::is_token_file(path)) {
    stream = io::read_token_file(path, model.config().vocab_size);
    if (stream.dim() == 2 && stream.size(1) != seqlen) {
      throw UsageError({.what = concat("the token file has rows of ", stream.size(1),
                                       " ids, and windows are to have ", seqlen),
                        .where = path,
                        .fix = concat("use --seqlen ", stream.size(1))});
    }
    stream = stream.reshape({-1});
    text.bos = "as in the token file";
  } else {
    const auto tokenizer = io::open_tokenizer(model.folder());
    auto ids = tokenizer->encode(files.read(path), io::Tokenizer::AddSpecial::kYes);
    stream = at::from_blob(ids.data(), {static_cast<std::int64_t>(ids.size())}, at::kInt).clone();
    text.bos = tokenizer->bos() ? concat("one BOS, ", *tokenizer->bos(), ", at the start")
                                : std::string("no BOS");
  }
  text.windows = eval::cut_into_windows(stream, seqlen, options.limit);
  return text;
}

/// Every text on rank 0; on the others as many empty ones.
std::vector<EvalText> open_texts(bool first_rank, const pipeline::ModelSource& model,
                                 const io::FileSystem& files, const EvalOptions& options) {
  std::vector<EvalText> texts(options.texts.size());
  for (std::size_t i = 0; first_rank && i < texts.size(); ++i) {
    texts[i] = open_text(options.texts[i], model, files, options);
    for (std::size_t other = 0; other < i; ++other) {
      if (texts[other].name != texts[i].name) continue;
      throw UsageError({.what = concat("two files are named '", texts[i].name, "'"),
                        .where = "option --ppl",
                        .fix = "results are told apart by file name: rename one"});
    }
  }
  return texts;
}

void check_subject(const pipeline::ModelSource& model, const std::optional<FinishedRun>& run,
                   int ranks) {
  if (ranks > model.blocks()) {
    throw UsageError(
        {.what = concat(ranks, " ranks, and the model has ", model.blocks(), " blocks"),
         .where = "number of ranks (mpirun -n)",
         .fix = concat("use at most ", model.blocks(), " ranks")});
  }
  if (run) check_model_of_run(*run, model);
}

std::vector<std::uint64_t> peak_memory_of_ranks(dist::Transport& transport) {
  const at::Tensor mine = at::tensor({static_cast<double>(peak_memory_bytes())}, at::kDouble);
  std::vector<std::uint64_t> peaks;
  for (const at::Tensor& peak : dist::gather(transport, mine, Rank{0}, "usage")) {
    peaks.push_back(static_cast<std::uint64_t>(peak[0].item<double>()));
  }
  return peaks;
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
  check_subject(model, run, transport.size());
  if (session.first_rank()) model.check();
  const auto texts = open_texts(session.first_rank(), model, *files, options);

  const io::BlockStateStore states(*files, options.run);
  const at::ScalarType compute = session.dtype(run ? run->dtype : at::kFloat);
  eval::Evaluator evaluator(transport,
                            {.model = model,
                             .recipe = run ? &run->recipe : nullptr,
                             .states = run ? &states : nullptr,
                             .compute = compute,
                             .store = run ? pipeline::store_dtype(run->recipe, compute) : compute});
  nlohmann::ordered_json ppl = nlohmann::ordered_json::object();
  nlohmann::ordered_json settings = {{"subject", run ? options.run : options.model},
                                     {"dtype", compute == at::kBFloat16 ? "bfloat16" : "float32"},
                                     {"ranks", transport.size()}};
  for (const EvalText& text : texts) {
    const double value = eval::perplexity(evaluator.window_losses(text.windows));
    if (!session.first_rank()) continue;
    ppl[text.name] = value;
    settings["windows"][text.name] = text.windows.size(0);
    settings["seqlen"] = text.windows.size(1);
    settings["bos"][text.name] = text.bos;
    std::printf("%s: perplexity %.4f  (%lld windows of %lld tokens, %s)\n", text.name.c_str(),
                value, static_cast<long long>(text.windows.size(0)),
                static_cast<long long>(text.windows.size(1)), text.bos.c_str());
  }
  const auto peaks = peak_memory_of_ranks(transport);
  session.write_json(nlohmann::ordered_json{
      {"ppl", ppl},
      {"settings", settings},
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

#include "src/pipeline/run_setup.h"

#include <algorithm>
#include <span>

#include <ATen/ATen.h>

#include "io/token_file.h"
#include "io/tokenizer.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/models/site_maps.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/calibration_windows.h"
#include "src/pipeline/wave_layout.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::pipeline {
namespace {

void refuse(const std::string& what, const std::string& where, const std::string& fix) {
  throw UsageError({.what = what, .where = where, .fix = fix});
}

void check_quota(const CalibrationRequest& request, const models::ModelConfig& config) {
  const recipe::Recipe& recipe = request.recipe;
  if (request.disk_quota == 0) return;
  const auto bytes_at_once = [&](Targets targets) {
    const std::int64_t each = store_dtype(recipe, request.compute) == at::kFloat ? 4 : 2;
    return static_cast<std::uint64_t>(
        boundaries_at_once(recipe.train, targets, static_cast<int>(config.num_hidden_layers)) *
        request.samples * request.tokens * config.hidden_size * each);
  };
  const std::uint64_t needed = bytes_at_once(request.targets);
  if (needed <= request.disk_quota) return;
  const std::uint64_t fewest = bytes_at_once(Targets::kRecompute);
  const bool recomputing_helps =
      takes_targets(recipe, Targets::kRecompute) && fewest <= request.disk_quota;
  refuse(concat("activations take up to ", format_bytes(needed), ", and ",
                format_bytes(request.disk_quota), " are allowed"),
         "option --disk-quota",
         recomputing_helps
             ? concat("use --targets recompute, which takes up to ", format_bytes(fewest))
             : "allow more, lower --nsamples or --seqlen, or use train.store = \"bfloat16\"");
}

at::Tensor cut_windows(const at::Tensor& stream, const CalibrationRequest& request) {
  std::vector<at::Tensor> windows;
  for (const std::int64_t start : window_starts(stream.numel(), request.samples, request.tokens,
                                                request.stride, request.seed)) {
    windows.push_back(stream.narrow(0, start, request.tokens));
  }
  return at::stack(windows);
}

at::Tensor from_token_file(const std::filesystem::path& path, const CalibrationRequest& request,
                           std::int64_t vocab_size) {
  const at::Tensor ids = io::read_token_file(path, vocab_size);
  if (ids.dim() == 1) return cut_windows(ids, request);
  if (ids.size(0) < request.samples || ids.size(1) < request.tokens) {
    throw DataError({.what = concat("the token file holds ", ids.size(0), " rows of ", ids.size(1),
                                    " ids, and ", request.samples, " samples of ", request.tokens,
                                    " are asked for"),
                     .where = path.string(),
                     .fix = "give more rows, or lower --nsamples or --seqlen"});
  }
  return ids.narrow(0, 0, request.samples).narrow(1, 0, request.tokens).contiguous();
}

/// A shorter last group is padded with zeros, which an asymmetric range would have to contain.
void check_groups(const recipe::Recipe& recipe, const models::Family& family) {
  const std::int64_t size = recipe.weights.group_size;
  const bool grouped = recipe.weights.per == recipe::Per::kGroup && recipe.weights.bits < 16;
  if (!grouped || recipe.weights.symmetric) return;
  for (const models::LinearSpec& linear : family.block().linears) {
    if (linear.in % size == 0) continue;
    std::int64_t fits = size;
    while (linear.in % fits != 0) --fits;
    refuse(concat("groups of ", size, " do not divide the ", linear.in, " inputs of ", linear.name),
           "option --group-size, recipe field weights.group_size",
           concat("use ", fits, ", or weights.symmetric = true"));
  }
}

}  // namespace

void check_request(const CalibrationRequest& request, const models::Family& family, int ranks) {
  const models::ModelConfig& config = family.config();
  recipe::validate(request.recipe);
  check_groups(request.recipe, family);
  models::check_map_sizes(family, block_method(request.recipe).map);
  const auto& train = request.recipe.train;
  if (request.samples < 1 || request.tokens < 1) {
    refuse(concat("--nsamples ", request.samples, " of --seqlen ", request.tokens,
                  " leaves nothing to calibrate on"),
           "options --nsamples, --seqlen", "give both at least 1");
  }
  if (train.batch_size > request.samples) {
    refuse(concat("a micro-batch of ", train.batch_size, " samples, and only ", request.samples,
                  " samples"),
           "options --batch-size, --nsamples", "lower --batch-size or raise --nsamples");
  }
  if (config.max_position_embeddings > 0 && request.tokens > config.max_position_embeddings) {
    refuse(concat("samples of ", request.tokens, " tokens, and the model takes at most ",
                  config.max_position_embeddings),
           "option --seqlen", concat("use --seqlen ", config.max_position_embeddings, " or less"));
  }
  check_targets(request.recipe, request.targets);
  check_quota(request, config);
  if (request.replicas > 0) check_replicas(request.recipe, ranks, request.replicas);
  const std::int64_t most = most_ranks(static_cast<int>(config.num_hidden_layers), request.recipe);
  if (ranks > most) {
    refuse(
        concat(ranks, " ranks, and the model has ", config.num_hidden_layers,
               " blocks, each for at most ", train.batch_size,
               train.batch_size == 1 ? " rank" : " ranks (one for each sample of a micro-batch)"),
        "number of ranks (mpirun -n)", concat("use at most ", most, " ranks"));
  }
}

at::Tensor calibration_tokens(const CalibrationRequest& request, const ModelSource& model) {
  const std::int64_t vocab = model.config().vocab_size;
  for (const std::string& path : request.texts) {
    if (!io::is_token_file(path)) continue;
    if (request.texts.size() > 1) {
      refuse("a token file cannot be joined with other files", "option --calib",
             "give text files, or one .h5, .npy or .bin file");
    }
    return from_token_file(path, request, vocab);
  }
  const auto files = io::make_posix_file_system();
  std::string text;
  for (const std::string& path : request.texts) {
    if (!text.empty()) text += "\n\n";
    text += files->read(path);
  }
  auto ids = io::open_tokenizer(model.folder())->encode(text, io::Tokenizer::AddSpecial::kYes);
  const at::Tensor stream = at::from_blob(ids.data(), {static_cast<std::int64_t>(ids.size())},
                                          at::device(at::kCPU).dtype(at::kInt))
                                .clone();
  if (stream.numel() > 0 && stream.max().item<std::int32_t>() >= vocab) {
    throw DataError({.what = concat("the tokenizer gives id ", stream.max().item<std::int32_t>(),
                                    ", and the model's vocabulary has ", vocab, " entries"),
                     .where = model.folder().string(),
                     .fix = "use the tokenizer that belongs to the model"});
  }
  return cut_windows(stream, request);
}

io::RunManifest manifest_of(const CalibrationRequest& request, const ModelSource& model,
                            const at::Tensor& tokens, int ranks, std::string_view transport) {
  io::RunManifest manifest;
  manifest.identity = {{"model", model.fingerprint()},
                       {"tokens", io::tokens_fingerprint(tokens)},
                       {"seed", concat(request.seed)},
                       {"dtype", request.compute == at::kBFloat16 ? "bfloat16" : "float32"}};
  for (const auto& [field, value] : recipe::calibration_fields(request.recipe)) {
    manifest.identity.emplace("recipe." + field, value);
  }
  manifest.machine = request.machine;
  manifest.about = request.about;
  manifest.about["model_folder"] = std::filesystem::absolute(model.folder()).string();
  manifest.about["recipe_toml"] = recipe::to_toml(request.recipe);
  manifest.about["blocks"] = concat(model.blocks());
  manifest.about["samples"] = concat(request.samples);
  manifest.about["ranks"] = concat(ranks);
  manifest.about["transport"] = std::string(transport);
  return manifest;
}

void check_same_run(const io::RunManifest& found, const io::RunManifest& asked,
                    const CalibrationRequest& request) {
  const std::string where = (request.run / "run.json").string();
  const auto differing = io::differences(found.identity, asked.identity);
  if (!differing.empty()) {
    refuse(concat("the run was made with other settings: ", join(differing, "; ")), where,
           "give the run's settings, or name another directory with --run");
  }
  const auto machines = io::differences(found.machine, asked.machine);
  if (!machines.empty() && !request.other_machine) {
    refuse(concat("the run was made on another kind of machine: ", join(machines, "; ")), where,
           "equal bits need an equal machine; to go on all the same, add --other-machine");
  }
}

void record_other_machine(const io::RunManifest& found, io::RunManifest& asked) {
  std::vector<std::string> record;
  if (found.about.contains("other_machine")) record.push_back(found.about.at("other_machine"));
  for (const std::string& line : io::differences(found.machine, asked.machine)) {
    record.push_back(line);
  }
  if (!record.empty()) asked.about["other_machine"] = join(record, "; ");
}

void refuse_leftovers(const io::FileSystem& files, const std::filesystem::path& run) {
  for (const char* folder : {"activations", "blocks", "snapshots", "stats"}) {
    if (files.list(run / folder).empty()) continue;
    refuse("the directory holds files of a run, and no run.json that says of which",
           (run / folder).string(), "remove the directory, or name another with --run");
  }
}

}  // namespace lrq::pipeline

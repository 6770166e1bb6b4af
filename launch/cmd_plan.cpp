#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <tuple>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "io/file_system.h"
#include "launch/commands.h"
#include "launch/machine_file.h"
#include "launch/parsed_values.h"
#include "launch/plan_report.h"
#include "launch/published_flags.h"
#include "launch/validators.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/machine_probe.h"
#include "src/pipeline/wave_layout.h"

namespace lrq::cli {
namespace {

struct PlanOptions {
  std::string model;
  std::string machine = "cpu";
  std::string memory;
  std::string targets = "disk";
  std::int64_t tokens = 2048;
  int hidden_layer_num = 0;
  bool probe = false;
  RecipeOptions recipe;
  pipeline::RunShape shape{.replicas = 0};  ///< 0: as `calibrate` chooses
};

/// A model's config.json, itself or its folder.
struct Config {
  std::string where;
  std::string text;
};
Config read_config(const std::string& model) {
  std::filesystem::path path = model;
  if (std::filesystem::is_directory(path)) path /= "config.json";
  const auto files = io::make_posix_file_system();
  if (!files->exists(path)) {
    throw DataError({.what = "there is no such file",
                     .where = path.string(),
                     .fix = "name a config.json, or the folder that holds one, with --model"});
  }
  return {.where = path.string(), .text = files->read(path)};
}

/// Bytes of a weight in the checkpoint, by what config.json says of its dtype.
int file_bytes(const std::string& config) {
  const auto json = nlohmann::json::parse(config);
  for (const char* name : {"torch_dtype", "dtype"}) {
    if (json.contains(name) && json[name] == "float32") return 4;
  }
  return 2;
}

PlanReport make_report(Session& session, const PlanOptions& options) {
  const Config config = read_config(options.model);
  models::ModelConfig shape = models::parse_model_config(config.text, config.where);
  if (options.hidden_layer_num > 0) {
    shape.num_hidden_layers =
        std::min<std::int64_t>(shape.num_hidden_layers, options.hidden_layer_num);
  }
  const auto family = models::make_family(shape);
  PlanReport report;
  report.model = options.model;
  report.figures = pipeline::model_figures(*family);
  report.machine = find_machine(options.machine);
  if (!options.memory.empty()) {
    report.machine.memory_bytes = bytes_of(options.memory, "option --gpu-mem");
  }
  report.shape = options.shape;
  report.shape.on_device = !report.machine.measured;
  report.shape.targets = targets_of(options.targets);
  const recipe::Recipe recipe = merged_recipe(options.recipe);
  recipe::validate(recipe);
  const at::ScalarType compute =
      options.recipe.float32_products
          ? at::kFloat
          : session.dtype(report.shape.on_device ? at::kBFloat16 : at::kFloat);
  const auto bytes = [](at::ScalarType dtype) { return dtype == at::kFloat ? 4 : 2; };
  report.work = {.block = report.figures.block,
                 .learnables = pipeline::learnable_figures(*family, pipeline::block_method(recipe)),
                 .recipe = recipe,
                 .tokens = options.tokens,
                 .compute_bytes = bytes(compute),
                 .store_bytes = bytes(pipeline::store_dtype(recipe, compute)),
                 .file_bytes = file_bytes(config.text)};
  report.work.recipe.train.wave = std::min(recipe.train.wave, report.figures.blocks);
  if (report.shape.replicas == 0) {
    report.shape.replicas =
        pipeline::wave_layout(recipe, report.shape.ranks, report.work.recipe.train.wave, 0)
            .replicas;
  }
  const auto& [work, figures, machine] = std::tie(report.work, report.figures, report.machine);
  report.estimate = pipeline::estimate_run(work, figures, machine, report.shape);
  report.schedules = pipeline::compare_schedules(work, figures, machine, report.shape);
  report.advice = pipeline::advice_to_fit(work, figures, machine, report.shape);
  return report;
}

void run_plan(Session& session, const PlanOptions& options) {
  if (options.probe) {
    const pipeline::Machine machine = pipeline::probe_machine(session.transport());
    if (!session.first_rank()) return;
    const std::string json = machine_to_json(machine);
    std::printf("%s\n", json.c_str());
    session.write_json(json);
    return;
  }
  if (options.model.empty()) {
    throw UsageError({.what = "no model is named",
                      .where = "option --model",
                      .fix = "add --model DIR or --model config.json, or --probe"});
  }
  if (!session.first_rank()) return;
  const PlanReport report = make_report(session, options);
  std::fputs(plan_page(report).c_str(), stdout);
  session.write_json(plan_json(report));
}

/// On how many ranks of what, and how they work together.
void add_shape_options(CLI::App& command, PlanOptions& options) {
  command.add_option("--ranks,--gpus", options.shape.ranks, "ranks of the run, one a GPU")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command.add_option("--gpu-mem", options.memory, "memory of a rank, such as 80GiB");
  command.add_option("--nsamples", options.shape.samples, "calibration samples")
      ->check(positive())
      ->capture_default_str();
  command.add_option("--seqlen", options.tokens, "tokens per sample")
      ->check(positive())
      ->capture_default_str();
  command
      .add_option("--replicas", options.shape.replicas,
                  "ranks that share a stage and split each micro-batch (default: as many as there "
                  "is work for)")
      ->check(positive());
  command
      .add_option("--targets", options.targets,
                  "where full-precision targets come from: disk, memory or recompute")
      ->check(CLI::IsMember({"disk", "memory", "recompute"}))
      ->capture_default_str();
  add_resident_blocks_option(command, options.shape.resident_blocks);
  command.add_option("--slow-rank", options.shape.slow_rank, "simulate with one slow rank");
  command
      .add_option("--slow-factor", options.shape.slow_factor, "how many times slower it computes")
      ->check(positive());
  command
      .add_option("--slow-links", options.shape.slow_links,
                  "every message takes so many times as long")
      ->check(positive());
  command
      .add_option("--hidden-layer-num", options.hidden_layer_num,
                  "use only the first so many blocks of the model")
      ->check(positive());
}

}  // namespace

void add_plan_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand(
      "plan", "What a calibration would take, from config.json alone: memory, time, disk, traffic");
  command->add_option("--model", options->model, "config.json, or a folder that holds one");
  command
      ->add_option("--machine", options->machine,
                   "a100, h100, h200, cpu, or a file that --probe wrote")
      ->capture_default_str();
  command->add_flag("--probe", options->probe,
                    "measure this machine instead (on as many ranks as are started); --json FILE "
                    "keeps it");
  add_shape_options(*command, *options);
  add_recipe_options(*command, options->recipe);
  add_published_flags(*command, options->recipe);
  command->callback([options, &chosen] {
    chosen.collective = [options](Session& session) { run_plan(session, *options); };
  });
}

}  // namespace lrq::cli

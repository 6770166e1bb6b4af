#include <cstdio>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "io/block_state_store.h"
#include "io/file_system.h"
#include "launch/commands.h"
#include "launch/finished_run.h"
#include "launch/validators.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/export/registry.h"

namespace lrq::cli {
namespace {

struct ExportOptions {
  std::string run;
  std::string model;
  std::string format;
  std::string dtype = "auto";
  exporter::Target target;
};

std::optional<at::ScalarType> target_dtype(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float16") return at::kHalf;
  if (name == "bfloat16") return at::kBFloat16;
  return std::nullopt;
}

void run_export(Session& session, const ExportOptions& options) {
  const Stopwatch watch;
  const exporter::Format& format = exporter::find_format(options.format);
  const auto files = io::make_posix_file_system();
  const FinishedRun run = open_run(*files, options.run);
  const pipeline::ModelSource model(options.model.empty() ? run.model : options.model, run.blocks);
  check_model_of_run(run, model);
  model.check();
  const io::BlockStateStore states(*files, options.run);
  exporter::Job job{.transport = session.transport(),
                    .files = *files,
                    .model = model,
                    .recipe = run.recipe,
                    .states = states,
                    .run = run.identity,
                    .version = version_text(),
                    .target = options.target};
  job.target.dtype = target_dtype(options.dtype);
  const exporter::Report report = format.write(job);
  if (!session.first_rank()) return;
  std::printf("%s: %zu %s, %s of tensors\n", options.target.out.c_str(), report.shards.size(),
              report.shards.size() == 1 ? "file" : "files",
              format_bytes(report.tensor_bytes).c_str());
  for (const std::string& line : report.left_out) std::printf("  %s\n", line.c_str());
  session.write_json(nlohmann::ordered_json{{"out", options.target.out.string()},
                                            {"format", options.format},
                                            {"files", report.shards},
                                            {"tensor_bytes", report.tensor_bytes},
                                            {"left_out", report.left_out},
                                            {"seconds", watch.seconds()},
                                            {"peak_memory_bytes", peak_memory_bytes()}}
                         .dump(2));
}

}  // namespace

void add_export_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command =
      app.add_subcommand("export", "Write a finished run as a model that another engine loads");
  command->add_option("--run", options->run, "run directory of a finished calibration")->required();
  command
      ->add_option("--format", options->format,
                   concat("one of: ", join(exporter::format_names(), ", ")))
      ->required();
  command->add_option("--out", options->target.out, "folder to write")->required();
  command->add_option("--model", options->model, "the model that was calibrated, if it has moved");
  command->add_option("--dtype", options->dtype, "of the tensors (auto: as the source stores them)")
      ->check(CLI::IsMember({"auto", "float32", "float16", "bfloat16"}))
      ->capture_default_str();
  command
      ->add_option("--max-shard-size", options->target.max_shard_bytes,
                   "a larger model is cut into files of at most this: 5GB, 512MiB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->check(positive())
      ->default_str("5GB");
  command->add_flag("--overwrite", options->target.overwrite, "replace an older export in --out");
  command->callback([options, &chosen] {
    chosen.collective = [options](Session& session) { run_export(session, *options); };
  });
}

}  // namespace lrq::cli

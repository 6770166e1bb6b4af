#include <algorithm>
#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "io/file_system.h"
#include "launch/commands.h"
#include "launch/parsed_values.h"
#include "launch/published_flags.h"
#include "launch/validators.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/stop_request.h"
#include "src/base/text.h"
#include "src/pipeline/calibration.h"
#include "src/pipeline/model_source.h"

namespace lrq::cli {
namespace {

struct CalibrateOptions {
  std::string model;
  int hidden_layer_num = 0;
  double stop_timeout_s = 20.0;
  std::string targets = std::string(pipeline::targets_name(pipeline::Targets::kDisk));
  std::string disk_quota;
  RecipeOptions recipe;
  pipeline::CalibrationRequest request;
  std::unique_ptr<StopRequest> stop;  ///< from the moment that the command line is understood
};

void tell_too_late(double seconds, const std::string& run) {
  const ErrorText text{
      .what = concat("asked to stop, and no new cut was made within ", seconds, " s"),
      .where = run,
      .fix =
          "run again with --resume, which goes on at the cut before; --stop-timeout gives it "
          "longer"};
  std::fputs(format_error(text, concat("lrq-dist: rank ", launcher_rank())).c_str(), stderr);
  std::fflush(stderr);
}

void print_result(Session& session, const pipeline::CalibrationRequest& request,
                  const pipeline::CalibrationResult& result) {
  if (!session.first_rank()) return;
  std::uint64_t peak = 0;
  double waited = 0.0;
  for (const std::uint64_t bytes : result.peak_memory_bytes) peak = std::max(peak, bytes);
  std::uint64_t of_gpu = 0;
  for (const std::uint64_t bytes : result.peak_gpu_memory_bytes) of_gpu = std::max(of_gpu, bytes);
  for (const double seconds : result.waited_seconds) waited = std::max(waited, seconds);
  std::printf("%s: %lld block steps in %s, peak memory %s a rank%s, waited at most %s\n",
              request.run.c_str(), static_cast<long long>(result.block_steps),
              format_seconds(result.seconds).c_str(), format_bytes(peak).c_str(),
              of_gpu > 0 ? concat(" and ", format_bytes(of_gpu), " of its GPU").c_str() : "",
              format_seconds(waited).c_str());
  if (result.stopped) {
    std::printf("stopped on request: run again with --resume\n");
  } else {
    std::printf("next: lrq-dist eval --run %s --ppl FILE\n", request.run.c_str());
  }
  session.write_json(nlohmann::ordered_json{{"run", request.run.string()},
                                            {"recipe", request.recipe.name},
                                            {"stopped", result.stopped},
                                            {"ranks", session.transport().size()},
                                            {"seconds", result.seconds},
                                            {"learning_seconds", result.learning_seconds},
                                            {"block_steps", result.block_steps},
                                            {"peak_memory_bytes", result.peak_memory_bytes},
                                            {"peak_gpu_memory_bytes", result.peak_gpu_memory_bytes},
                                            {"waited_seconds", result.waited_seconds}}
                         .dump(2));
}

void run_calibrate(Session& session, const CalibrateOptions& options) {
  pipeline::CalibrationRequest request = options.request;
  request.recipe = merged_recipe(options.recipe);
  request.compute = options.recipe.float32_products ? at::kFloat : session.usual_dtype();
  request.machine = session.machine();
  request.about["version"] = version_text();
  request.targets = targets_of(options.targets);
  if (!options.disk_quota.empty()) {
    request.disk_quota =
        static_cast<std::uint64_t>(bytes_of(options.disk_quota, "option --disk-quota"));
  }
  request.peak_gpu_memory = [&session] { return session.peak_gpu_memory(); };
  request.stop_asked = [&options] { return options.stop->asked(); };
  const pipeline::ModelSource model(options.model, options.hidden_layer_num, session.device());
  const auto files = io::make_posix_file_system();
  const auto result = pipeline::calibrate(session.transport(), *files, model, request);
  print_result(session, request, result);
  if (result.stopped) session.end_with(kExitStopped);
}

}  // namespace

void add_calibrate_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<CalibrateOptions>();
  CLI::App* command = app.add_subcommand(
      "calibrate", "Quantize a model: learn every block's parameters from calibration text");
  auto& request = options->request;
  command->add_option("--model", options->model, "Hugging Face model folder")->required();
  command->add_option("--calib", request.texts, "text files, or one .h5, .npy or .bin of token ids")
      ->required();
  command->add_option("--run", request.run, "run directory to make or to go on with")->required();
  command->add_option("--nsamples", request.samples, "calibration samples")->capture_default_str();
  command->add_option("--seqlen", request.tokens, "tokens per sample")->capture_default_str();
  command
      ->add_option("--calib-stride", request.stride,
                   "sample i starts at token i*S (default: windows drawn by --seed)")
      ->check(not_negative());
  command->add_option("--seed", request.seed, "seed of every draw")->capture_default_str();
  command
      ->add_option("--cut-every", request.cut_every,
                   "steps between resume points (default: one epoch); never changes bits")
      ->check(not_negative());
  command
      ->add_option("--replicas", request.replicas,
                   "ranks that share a stage and split each micro-batch (default: as many as there "
                   "is work for); never changes bits")
      ->check(positive());
  command
      ->add_option("--targets", options->targets,
                   "where full-precision targets come from while a wave learns: disk, memory (read "
                   "once a wave), or recompute (two boundaries on disk instead of all); never "
                   "changes bits")
      ->check(CLI::IsMember({"disk", "memory", "recompute"}))
      ->capture_default_str();
  add_resident_blocks_option(*command, request.resident_blocks);
  command->add_option("--disk-quota", options->disk_quota,
                      "what activations may take on disk, such as 500GB: more is refused at once, "
                      "and what no later step reads is removed");
  command
      ->add_option("--stop-timeout", options->stop_timeout_s,
                   "seconds that SIGUSR1 or SIGTERM leave for a last cut; then it ends without")
      ->check(positive())
      ->capture_default_str();
  command->add_flag("--resume", request.resume, "go on where an interrupted run stopped");
  command->add_flag("--other-machine", request.other_machine,
                    "resume on a machine whose bits may differ");
  command
      ->add_option("--hidden-layer-num", options->hidden_layer_num,
                   "use only the first so many blocks of the model")
      ->check(positive());
  add_recipe_options(*command, options->recipe);
  add_published_flags(*command, options->recipe);
  command->callback([options, &chosen] {
    options->stop = std::make_unique<StopRequest>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(
            std::chrono::duration<double>(options->stop_timeout_s)),
        [options = options.get()] {
          tell_too_late(options->stop_timeout_s, options->request.run.string());
        });
    chosen.tensors = TensorsOf::kDevice;
    chosen.collective = [options](Session& session) { run_calibrate(session, *options); };
  });
}

}  // namespace lrq::cli

#include "launch/finished_run.h"

#include <optional>

#include "io/run_manifest.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::cli {

FinishedRun open_run(const io::FileSystem& files, const std::string& run) {
  const io::RunManifest manifest = io::require_manifest(files, run);
  if (!manifest.finished) {
    throw DataError({.what = "the run is not finished",
                     .where = run,
                     .fix = "finish it: the same calibrate command with --resume"});
  }
  FinishedRun found;
  found.recipe = recipe::parse_recipe(manifest.about.at("recipe_toml"), run + "/run.json",
                                      [](const std::string&) { return std::nullopt; });
  found.model = manifest.about.at("model_folder");
  found.fingerprint = manifest.identity.at("model");
  found.blocks = std::stoi(manifest.about.at("blocks"));
  found.dtype = manifest.identity.at("dtype") == "bfloat16" ? at::kBFloat16 : at::kFloat;
  found.identity = manifest.identity;
  return found;
}

void check_model_of_run(const FinishedRun& run, const pipeline::ModelSource& model) {
  if (run.fingerprint == model.fingerprint()) return;
  throw DataError({.what = concat("the run was made from another model: ", run.fingerprint,
                                  ", not ", model.fingerprint()),
                   .where = model.folder().string(),
                   .fix = "name the model that was calibrated with --model"});
}

}  // namespace lrq::cli

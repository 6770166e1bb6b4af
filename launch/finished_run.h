#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::cli {

/// A finished run, as the commands that use its blocks need it.
struct FinishedRun {
  recipe::Recipe recipe;
  std::string model;        ///< the folder that was calibrated
  std::string fingerprint;  ///< of that model
  int blocks = 0;           ///< the run's: the model's first so many
  at::ScalarType dtype = at::kFloat;
  std::map<std::string, std::string> identity;  ///< of run.json: what a resume must match
};

/// Throws DataError: no run.json, a torn one, a run that is not finished.
[[nodiscard]] FinishedRun open_run(const io::FileSystem& files, const std::string& run);

/// Throws DataError if the run was made from another model.
void check_model_of_run(const FinishedRun& run, const pipeline::ModelSource& model);

}  // namespace lrq::cli

#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::cli {

/// A finished run, as evaluation needs it.
struct FinishedRun {
  recipe::Recipe recipe;
  std::string model;
  std::string fingerprint;
  int blocks = 0;
  at::ScalarType dtype = at::kFloat;
};

/// Throws DataError if the folder holds no run or an unfinished one.
[[nodiscard]] FinishedRun open_run(const io::FileSystem& files, const std::string& run);

/// Throws UsageError (more ranks than blocks), DataError (the run is of another model).
void check_subject(const pipeline::ModelSource& model, const std::optional<FinishedRun>& run,
                   int ranks);

/// A text cut into windows, and what its tokens begin with.
struct EvalText {
  std::string name;  ///< file stem: its key in the JSON
  at::Tensor windows;
  std::string bos;
};

/// Open the texts or token files for perplexity.  limit: so many windows of each (0: all).
/// Throws UsageError (two of one name, rows of another length), DataError.
[[nodiscard]] std::vector<EvalText> open_texts(const std::vector<std::string>& paths,
                                               const pipeline::ModelSource& model,
                                               const io::FileSystem& files, std::int64_t seqlen,
                                               std::int64_t limit);

}  // namespace lrq::cli

#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/file_system.h"
#include "launch/finished_run.h"
#include "src/pipeline/model_source.h"

namespace lrq::cli {

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

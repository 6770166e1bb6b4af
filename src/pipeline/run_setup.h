#pragma once

#include <ATen/core/Tensor.h>

#include "src/pipeline/calibration.h"

namespace lrq::pipeline {

/// Refuse what cannot be: recipe fields, more ranks than samples of a step of all blocks, a micro-batch larger than N, ...
/// Throws UsageError.  Every rank comes to the same answer.
void check_request(const CalibrationRequest& request, const models::Family& family, int ranks);

/// Make the calibration tokens [N, T] int32 from texts (tokenized by the model's tokenizer, several
/// joined by a blank line) or from a token file (1-D: a stream; 2-D: row i gives sample i).
/// Throws DataError.
[[nodiscard]] at::Tensor calibration_tokens(const CalibrationRequest& request,
                                            const ModelSource& model);

/// What run.json will say of the request.
[[nodiscard]] io::RunManifest manifest_of(const CalibrationRequest& request,
                                          const ModelSource& model, const at::Tensor& tokens,
                                          int ranks, std::string_view transport);

/// Compare a run directory's manifest with what is asked.  Throws UsageError naming what differs.
void check_same_run(const io::RunManifest& found, const io::RunManifest& asked,
                    const CalibrationRequest& request);

/// Keep what an earlier --other-machine recorded, and record a difference that is let through now.
void record_other_machine(const io::RunManifest& found, io::RunManifest& asked);

/// Refuse a directory that holds files of a run and no run.json: nobody knows what they are.
/// Throws UsageError.
void refuse_leftovers(const io::FileSystem& files, const std::filesystem::path& run);

}  // namespace lrq::pipeline

#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "io/file_system.h"
#include "io/run_manifest.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// What `lrq-dist calibrate` was asked to do.
struct CalibrationRequest {
  std::filesystem::path run;
  std::vector<std::string> texts;  ///< --calib: text files, or one token file
  recipe::Recipe recipe;
  std::int64_t samples = 128;
  std::int64_t tokens = 2048;
  std::int64_t stride = 0;  ///< --calib-stride; 0 draws random windows
  std::uint64_t seed = 2;
  std::int64_t cut_every = 0;  ///< steps; 0 = one epoch
  bool resume = false;
  bool other_machine = false;
  at::ScalarType compute = at::kFloat;
  at::Device device = at::kCPU;
  std::map<std::string, std::string> machine;  ///< threads, cpu, torch: see RunManifest
  std::map<std::string, std::string> about;    ///< version, command line
};

struct CalibrationResult {
  double seconds = 0.0;
  double learning_seconds = 0.0;
  std::int64_t block_steps = 0;                  ///< done by this call, all ranks together
  std::vector<std::uint64_t> peak_memory_bytes;  ///< per rank; filled on rank 0
  std::vector<double> waited_seconds;            ///< per rank; filled on rank 0
};

/// Quantize a model: the main job, from the calibration text to every block's file.  Collective.
/// Throws UsageError (options that do not fit, a run directory in use, a resume that differs),
/// DataError, TransportError, NumericError.
CalibrationResult calibrate(dist::Transport& transport, io::FileSystem& files,
                            const ModelSource& model, const CalibrationRequest& request);

}  // namespace lrq::pipeline

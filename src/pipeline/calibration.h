#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "io/file_system.h"
#include "io/run_manifest.h"
#include "src/pipeline/model_source.h"
#include "src/pipeline/targets.h"
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
  int replicas = 0;            ///< ranks that share a stage; 0: as many as there is work for
  Targets targets = Targets::kDisk;
  int resident_blocks = 0;       ///< of a rank, in memory at the same time; 0: all
  std::uint64_t disk_quota = 0;  ///< bytes that activations may take; 0: no limit, and none removed
  bool resume = false;
  /// Rank 0: whether the run is to stop; once true it stays true.
  std::function<bool()> stop_asked = [] { return false; };
  /// Most bytes of this rank's GPU that its tensors have taken.
  std::function<std::uint64_t()> peak_gpu_memory = [] { return std::uint64_t{0}; };
  bool other_machine = false;
  at::ScalarType compute = at::kFloat;
  std::map<std::string, std::string> machine;  ///< threads, instruction_set, torch
  std::map<std::string, std::string> about;    ///< version, command line
};

struct CalibrationResult {
  bool stopped = false;  ///< asked to; a resume goes on where this call stopped
  double seconds = 0.0;
  double learning_seconds = 0.0;                     ///< in waves: learning and freezing
  std::int64_t block_steps = 0;                      ///< done by this call, all ranks together
  std::vector<std::uint64_t> peak_memory_bytes;      ///< per rank; filled on rank 0
  std::vector<std::uint64_t> peak_gpu_memory_bytes;  ///< the same; empty without GPUs
  std::vector<double> waited_seconds;                ///< per rank; filled on rank 0
};

/// Quantize a model: the main job, from the calibration text to every block's file.  Collective.
/// Asked to stop, it returns after a cut (in a wave) or at the end of the phase it is in.
/// Throws UsageError (options that do not fit, a run directory in use, a resume that differs),
/// DataError, TransportError, NumericError.
CalibrationResult calibrate(dist::Transport& transport, io::FileSystem& files,
                            const ModelSource& model, const CalibrationRequest& request);

}  // namespace lrq::pipeline

#pragma once

#include <filesystem>
#include <memory>
#include <utility>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "io/activation_store.h"
#include "io/block_state_store.h"
#include "io/file_system.h"
#include "src/pipeline/kept_samples.h"
#include "src/pipeline/model_source.h"
#include "src/pipeline/resident_blocks.h"
#include "src/pipeline/targets.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

class RunLog;

/// What every phase of a calibration works with.  All references are borrowed from calibrate() for
/// the life of the run; nothing here changes after set-up.
struct RunContext {
  dist::Transport& transport;
  io::FileSystem& files;
  const ModelSource& model;
  const recipe::Recipe& recipe;
  io::ActivationStore& activations;
  io::BlockStateStore& states;
  RunLog& log;
  std::filesystem::path run;
  std::int64_t samples = 0;  ///< N
  std::int64_t tokens = 0;   ///< T
  std::uint64_t seed = 0;    ///< of every draw
  at::ScalarType compute = at::kFloat;
  at::ScalarType store = at::kFloat;
  Targets targets = Targets::kDisk;
  KeptSamples* kept = nullptr;  ///< with Targets::kMemory
  int resident_blocks = 0;      ///< of a rank, in memory at the same time; 0: all

  /// What this rank computes on: its weights', and so that of everything that meets them.
  [[nodiscard]] at::Device device() const { return model.device(); }
  [[nodiscard]] int ranks() const { return transport.size(); }
  [[nodiscard]] int rank() const { return transport.rank().value; }
  [[nodiscard]] std::int64_t hidden() const { return model.config().hidden_size; }
  /// All samples of a boundary.  Throws DataError.
  [[nodiscard]] std::unique_ptr<io::BoundaryReader> open(const io::Boundary& boundary,
                                                         Keep keep = Keep::kNo) const {
    auto reader = activations.open(boundary, samples);
    if (kept == nullptr) return reader;
    return kept_reader(*kept, boundary, std::move(reader), keep);
  }
  /// Steps or samples that a block does before the next one of its rank.
  [[nodiscard]] std::int64_t turn() const { return turn_of(resident_blocks); }
  /// M: micro-batches in an epoch; samples beyond M * B are not learned from.
  [[nodiscard]] std::int64_t micro_batches() const { return samples / recipe.train.batch_size; }
};

}  // namespace lrq::pipeline

#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"
#include "io/block_state_store.h"
#include "io/file_system.h"
#include "src/pipeline/model_source.h"
#include "src/recipe/recipe.h"

namespace lrq::exporter {  // "export" is a word of the language

/// Where an exported model goes, and how it is cut into files.
struct Target {
  std::filesystem::path out;
  std::optional<at::ScalarType> dtype;          ///< none: each tensor in the dtype of the source
  std::size_t max_shard_bytes = 5'000'000'000;  ///< a larger tensor has a file of its own
  bool overwrite = false;                       ///< replace an older export
};

/// One export of a finished run: what every format gets.  All references are borrowed.
struct Job {
  dist::Transport& transport;
  io::FileSystem& files;
  const pipeline::ModelSource& model;
  const recipe::Recipe& recipe;
  const io::BlockStateStore& states;
  std::map<std::string, std::string> run;  ///< its identity, for the note in the folder
  std::string version;                     ///< of this program
  Target target;
};

/// What an export made, complete on rank 0.
struct Report {
  std::vector<std::string> shards;  ///< names of the files with tensors
  std::uint64_t tensor_bytes = 0;
  std::vector<std::string> left_out;  ///< what the format cannot hold, each by name
};

}  // namespace lrq::exporter

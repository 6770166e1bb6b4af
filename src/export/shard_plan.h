#pragma once

#include <string>
#include <vector>

#include "io/safetensors_writer.h"

namespace lrq::exporter {

/// A file of a model folder and what it holds.
struct Shard {
  std::string file;
  std::vector<io::PlannedTensor> tensors;
};

/// Cut a model into files of at most max_bytes of tensors each, in order; a tensor that is larger
/// has a file of its own.  Names as transformers gives them: model.safetensors, or
/// model-00001-of-00003.safetensors, ...
[[nodiscard]] std::vector<Shard> plan_shards(const std::vector<io::PlannedTensor>& tensors,
                                             std::size_t max_bytes);

/// The text of model.safetensors.index.json.
[[nodiscard]] std::string shard_index(const std::vector<Shard>& shards);

}  // namespace lrq::exporter

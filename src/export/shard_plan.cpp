#include "src/export/shard_plan.h"

#include <nlohmann/json.hpp>

#include "src/base/text.h"

namespace lrq::exporter {

std::vector<Shard> plan_shards(const std::vector<io::PlannedTensor>& tensors,
                               std::size_t max_bytes) {
  std::vector<Shard> shards;
  std::size_t used = 0;
  for (const io::PlannedTensor& tensor : tensors) {
    if (shards.empty() || used + tensor.bytes() > max_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().tensors.push_back(tensor);
    used += tensor.bytes();
  }
  const auto count = static_cast<std::int64_t>(shards.size());
  for (std::int64_t i = 0; i < count; ++i) {
    shards[static_cast<std::size_t>(i)].file =
        count == 1 ? "model.safetensors"
                   : concat("model-", padded(i + 1, 5), "-of-", padded(count, 5), ".safetensors");
  }
  return shards;
}

std::string shard_index(const std::vector<Shard>& shards) {
  nlohmann::ordered_json index;
  std::uint64_t bytes = 0;
  nlohmann::json places = nlohmann::json::object();
  for (const Shard& shard : shards) {
    for (const io::PlannedTensor& tensor : shard.tensors) {
      bytes += tensor.bytes();
      places[tensor.name] = shard.file;
    }
  }
  index["metadata"]["total_size"] = bytes;
  index["weight_map"] = places;
  return index.dump(2) + "\n";
}

}  // namespace lrq::exporter

#include "src/pipeline/block_state.h"

#include "src/base/text.h"
#include "src/pipeline/host_memory.h"

namespace lrq::pipeline {
namespace {

constexpr const char* kKept = "kept";

}  // namespace

io::TensorFile finished_block(BlockIndex block, const recipe::Recipe& recipe,
                              const models::NamedTensors& learnables) {
  io::TensorFile file{.tensors = on_host(learnables),
                      .metadata = {{"format", "lrq-dist block 1"}, {"block", concat(block)}}};
  for (const auto& [field, value] : recipe::calibration_fields(recipe)) {
    file.metadata.emplace("recipe." + field, value);
  }
  return file;
}

io::TensorFile kept_block(BlockIndex block, const recipe::Recipe& recipe,
                          const models::NamedTensors& learnables, const std::string& kept) {
  io::TensorFile file = finished_block(block, recipe, learnables);
  file.metadata.emplace(kKept, kept);
  return file;
}

std::string kept_in(const io::TensorFile& block) {
  const auto found = block.metadata.find(kKept);
  return found == block.metadata.end() ? std::string() : found->second;
}

io::TensorFile snapshot_of(BlockIndex block, const io::SnapshotKey& key,
                           const models::NamedTensors& state) {
  return {.tensors = on_host(state),
          .metadata = {{"format", "lrq-dist snapshot 1"},
                       {"block", concat(block)},
                       {"wave", concat(key.wave)},
                       {"step", concat(key.step)}}};
}

}  // namespace lrq::pipeline

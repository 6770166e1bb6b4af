#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/checkpoint_reader.h"
#include "src/models/family.h"

namespace lrq::pipeline {

/// A model folder: its configuration, its family, and its tensors on demand, on the device that
/// this rank computes on.  Each rank opens its own; only the tensors that are asked for are
/// touched.
class ModelSource {
 public:
  /// first_blocks: use only so many blocks of the model (0: all of them).
  /// Throws DataError: no folder, no config.json, an unknown architecture, a broken checkpoint;
  /// UsageError: more first_blocks than the model has.
  explicit ModelSource(std::filesystem::path folder, int first_blocks = 0,
                       at::Device device = at::kCPU);

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] at::Device device() const { return device_; }
  [[nodiscard]] const models::Family& family() const { return *family_; }
  [[nodiscard]] const models::ModelConfig& config() const { return family_->config(); }
  [[nodiscard]] int blocks() const { return static_cast<int>(config().num_hidden_layers); }

  /// Tensors of a block, float32, by their names within the block.
  [[nodiscard]] models::NamedTensors block(BlockIndex block) const;
  /// Tensors of the embedding and of the final norm and head, by full name.
  [[nodiscard]] models::NamedTensors embedding() const;
  [[nodiscard]] models::NamedTensors head() const;

  /// All tensors of the embedding, the head and the blocks; a tied head names the embedding again.
  [[nodiscard]] std::vector<models::TensorSpec> tensors() const;
  /// The name under which the checkpoint has a tensor: models saved without their head lack the
  /// leading "model.".
  [[nodiscard]] std::string stored_name(const std::string& name) const;
  /// Check that every tensor is there with its shape, without reading any.  Throws DataError.
  void check() const;
  /// Changes when config.json, a header or a file size changes.
  [[nodiscard]] std::string fingerprint() const;

 private:
  [[nodiscard]] models::NamedTensors read(const std::vector<models::TensorSpec>& specs,
                                          const std::string& strip) const;

  std::filesystem::path folder_;
  at::Device device_;
  std::string config_text_;
  std::unique_ptr<models::Family> family_;
  std::unique_ptr<io::CheckpointReader> reader_;
};

}  // namespace lrq::pipeline

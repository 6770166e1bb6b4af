#include "src/pipeline/model_source.h"

#include <span>
#include <utility>

#include <ATen/ATen.h>

#include "io/crc32c.h"
#include "io/file_system.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {
namespace {

std::string read_config(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw DataError({.what = "no such model folder",
                     .where = folder.string(),
                     .fix = "name a Hugging Face model folder with --model (launch/setup fetches "
                            "one for the demo)"});
  }
  const auto path = folder / "config.json";
  const auto files = io::make_posix_file_system();
  if (!files->exists(path)) {
    throw DataError({.what = "the model folder has no config.json",
                     .where = path.string(),
                     .fix = "name a complete Hugging Face model folder with --model"});
  }
  return files->read(path);
}

}  // namespace

ModelSource::ModelSource(std::filesystem::path folder, int first_blocks, at::Device device)
    : folder_(std::move(folder)), device_(device), config_text_(read_config(folder_)) {
  models::ModelConfig config =
      models::parse_model_config(config_text_, (folder_ / "config.json").string());
  if (first_blocks > config.num_hidden_layers) {
    throw UsageError({.what = concat("the first ", first_blocks,
                                     " blocks are asked for, and the "
                                     "model has ",
                                     config.num_hidden_layers),
                      .where = "option --hidden-layer-num",
                      .fix = concat("use at most ", config.num_hidden_layers)});
  }
  if (first_blocks > 0) config.num_hidden_layers = first_blocks;
  family_ = models::make_family(config);
  reader_ = io::open_checkpoint(folder_);
}

std::string ModelSource::stored_name(const std::string& name) const {
  constexpr std::string_view kBase = "model.";
  if (reader_->contains(name) || !name.starts_with(kBase)) return name;
  const std::string bare = name.substr(kBase.size());
  return reader_->contains(bare) ? bare : name;
}

models::NamedTensors ModelSource::read(const std::vector<models::TensorSpec>& specs,
                                       const std::string& strip) const {
  models::NamedTensors tensors;
  for (const models::TensorSpec& spec : specs) {
    const std::string name =
        spec.name.starts_with(strip) ? spec.name.substr(strip.size()) : spec.name;
    tensors.emplace(name,
                    reader_->read(stored_name(spec.name), spec.shape, at::kFloat).to(device_));
  }
  return tensors;
}

models::NamedTensors ModelSource::block(BlockIndex block) const {
  return read(family_->block_tensors(block), family_->block_prefix(block));
}

models::NamedTensors ModelSource::embedding() const {
  return read(family_->embedding_tensors(), "");
}

models::NamedTensors ModelSource::head() const { return read(family_->head_tensors(), ""); }

std::vector<models::TensorSpec> ModelSource::tensors() const {
  auto specs = family_->embedding_tensors();
  const auto append = [&](const std::vector<models::TensorSpec>& more) {
    specs.insert(specs.end(), more.begin(), more.end());
  };
  append(family_->head_tensors());
  for (int block = 0; block < blocks(); ++block) append(family_->block_tensors(BlockIndex{block}));
  return specs;
}

void ModelSource::check() const {
  for (const models::TensorSpec& spec : tensors()) {
    reader_->check(stored_name(spec.name), spec.shape);
  }
}

std::string ModelSource::fingerprint() const {
  const auto bytes = std::as_bytes(std::span(config_text_.data(), config_text_.size()));
  return concat("config ", io::crc32c(bytes), ", blocks ", blocks(), ", ", reader_->fingerprint());
}

}  // namespace lrq::pipeline

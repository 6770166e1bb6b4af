#include <array>

#include "io/checkpoint_reader.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {

// One declaration and one line of the table per checkpoint format (io/<name>_reader.cpp).
std::unique_ptr<CheckpointReader> open_safetensors(const std::filesystem::path& folder);

namespace {

struct CheckpointFormat {
  const char* files;  // what a folder of this format holds, for the message
  std::unique_ptr<CheckpointReader> (*open)(const std::filesystem::path& folder);  // null: not it
};

constexpr std::array kCheckpointFormats = {
    CheckpointFormat{"model.safetensors or model.safetensors.index.json", &open_safetensors},
};

}  // namespace

std::unique_ptr<CheckpointReader> open_checkpoint(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw DataError({.what = std::filesystem::exists(folder) ? "the model is a file, not a folder"
                                                             : "there is no such model folder",
                     .where = folder.string(),
                     .fix = "name the folder that holds config.json with --model"});
  }
  std::vector<std::string> expected;
  for (const CheckpointFormat& format : kCheckpointFormats) {
    if (auto reader = format.open(folder)) return reader;
    expected.emplace_back(format.files);
  }
  throw DataError({.what = concat("the folder holds no weights: no ", join(expected, ", no ")),
                   .where = folder.string(),
                   .fix = "download the weights, or save them anew as safetensors "
                          "(save_pretrained in transformers does)"});
}

}  // namespace lrq::io

#include <cstdio>
#include <memory>
#include <set>

#include <CLI/CLI.hpp>

#include "io/describe.h"
#include "launch/commands.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/model_source.h"

namespace lrq::cli {
namespace {

/// What a model folder holds, and that every tensor of it is there with its shape.
std::string describe_model(const std::filesystem::path& folder) {
  const pipeline::ModelSource model(folder);
  model.check();
  const models::ModelConfig& config = model.config();
  std::set<std::string> names;
  std::int64_t parameters = 0;
  for (const models::TensorSpec& spec : model.tensors()) {
    if (!names.insert(spec.name).second) continue;
    std::int64_t numbers = 1;
    for (const std::int64_t size : spec.shape) numbers *= size;
    parameters += numbers;
  }
  std::string text =
      concat("family: ", config.model_type, "\nblocks: ", model.blocks(),
             "\nhidden size: ", config.hidden_size, ", MLP ", config.intermediate_size,
             ", vocabulary ", config.vocab_size, ", positions ", config.max_position_embeddings,
             "\nheads: ", config.num_attention_heads, " of ", config.head_dim, ", key/value heads ",
             config.num_key_value_heads, "\n");
  if (config.sliding_window) {
    text += concat("attention: each token sees ", *config.sliding_window, " positions\n");
  }
  text += concat("head: ", config.tie_word_embeddings ? "the embedding" : "its own", "\n");
  for (const models::NormPair& pair : model.family().block().norm_pairs) {
    text +=
        concat("smoothing ", pair.name, ": ", pair.norm, " -> ", join(pair.consumers, ", "), "\n");
  }
  for (const models::ValuePair& pair : model.family().block().value_pairs) {
    text += concat("smoothing ", pair.name, ": ", pair.producer, " -> ", pair.consumer, "\n");
  }
  return text + concat("tensors: ", names.size(), ", all there, ", parameters, " parameters\n");
}

}  // namespace

void add_inspect_command(CLI::App& app, Chosen& chosen) {
  auto path = std::make_shared<std::filesystem::path>();
  auto model = std::make_shared<std::filesystem::path>();
  CLI::App* command = app.add_subcommand(
      "inspect",
      "What is in a file (safetensors, HDF5 or a run's JSON; checks its checksum), or in "
      "a model folder");
  CLI::Option* file_option = command->add_option("file", *path, "the file");
  command->add_option("--model", *model, "a model folder instead")->excludes(file_option);
  command->callback([path, model, &chosen] {
    chosen.local = [path, model] {
      if (path->empty() && model->empty()) {
        throw UsageError({.what = "nothing to inspect, expected a file or a model folder",
                          .where = "lrq-dist inspect",
                          .fix = "lrq-dist inspect FILE, or lrq-dist inspect --model DIR"});
      }
      const std::string text = model->empty() ? io::describe_file(*path) : describe_model(*model);
      std::fputs(text.c_str(), stdout);
    };
  });
}

}  // namespace lrq::cli

#include <cstdio>
#include <memory>

#include <ATen/ATen.h>
#include <CLI/CLI.hpp>

#include "io/file_system.h"
#include "io/token_file.h"
#include "io/tokenizer.h"
#include "launch/commands.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::cli {
namespace {

struct TokenizeOptions {
  std::string model;
  std::vector<std::string> texts;
  std::string out;
};

void run_tokenize(const TokenizeOptions& options) {
  if (!io::is_token_file(options.out) || options.out.ends_with(".bin")) {
    throw UsageError({.what = concat("cannot tell the format of '", options.out, "'"),
                      .where = "option --out",
                      .fix = "end the name in .h5 or .npy"});
  }
  const auto files = io::make_posix_file_system();
  std::string text;
  for (const std::string& path : options.texts) {
    if (!text.empty()) text += "\n\n";
    text += files->read(path);
  }
  auto ids = io::open_tokenizer(options.model)->encode(text, io::Tokenizer::AddSpecial::kYes);
  const auto count = static_cast<std::int64_t>(ids.size());
  io::write_token_file(
      *files, options.out,
      at::from_blob(ids.data(), {count}, at::device(at::kCPU).dtype(at::kInt)).clone());
  std::printf("%s: %lld tokens\n", options.out.c_str(), static_cast<long long>(count));
}

}  // namespace

void add_tokenize_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Turn text into token ids once, for many runs");
  command->add_option("--model", options->model, "Hugging Face model folder")->required();
  command->add_option("--text", options->texts, "text files, joined by a blank line")->required();
  command->add_option("--out", options->out, "file to write, .h5 or .npy")->required();
  command->callback([options, &chosen] { chosen.local = [options] { run_tokenize(*options); }; });
}

}  // namespace lrq::cli

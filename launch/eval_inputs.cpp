#include "launch/eval_inputs.h"

#include <algorithm>
#include <filesystem>

#include <ATen/ATen.h>

#include "io/token_file.h"
#include "io/tokenizer.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/eval/perplexity.h"

namespace lrq::cli {
namespace {

EvalText open_text(const std::string& path, const pipeline::ModelSource& model,
                   const io::FileSystem& files, std::int64_t longest_window, std::int64_t limit) {
  EvalText text{.name = std::filesystem::path(path).stem().string(), .windows = {}, .bos = {}};
  const std::int64_t longest = model.config().max_position_embeddings;
  const std::int64_t seqlen = longest > 0 ? std::min(longest_window, longest) : longest_window;
  at::Tensor stream;
  if (io::is_token_file(path)) {
    stream = io::read_token_file(path, model.config().vocab_size);
    if (stream.dim() == 2 && stream.size(1) != seqlen) {
      throw UsageError({.what = concat("the token file has rows of ", stream.size(1),
                                       " ids, and windows are to have ", seqlen),
                        .where = path,
                        .fix = concat("use --seqlen ", stream.size(1))});
    }
    stream = stream.reshape({-1});
    text.bos = "as in the token file";
  } else {
    const auto tokenizer = io::open_tokenizer(model.folder());
    auto ids = tokenizer->encode(files.read(path), io::Tokenizer::AddSpecial::kYes);
    stream = at::from_blob(ids.data(), {static_cast<std::int64_t>(ids.size())},
                           at::device(at::kCPU).dtype(at::kInt))
                 .clone();
    text.bos = tokenizer->bos() ? concat("one BOS, ", *tokenizer->bos(), ", at the start")
                                : std::string("no BOS");
  }
  text.windows = eval::cut_into_windows(stream, seqlen, limit);
  return text;
}

}  // namespace

void check_subject(const pipeline::ModelSource& model, const std::optional<FinishedRun>& run,
                   int ranks) {
  if (ranks > model.blocks()) {
    throw UsageError(
        {.what = concat(ranks, " ranks, and the model has ", model.blocks(), " blocks"),
         .where = "number of ranks (mpirun -n)",
         .fix = concat("use at most ", model.blocks(), " ranks")});
  }
  if (run) check_model_of_run(*run, model);
}

std::vector<EvalText> open_texts(const std::vector<std::string>& paths,
                                 const pipeline::ModelSource& model, const io::FileSystem& files,
                                 std::int64_t seqlen, std::int64_t limit) {
  std::vector<EvalText> texts;
  for (const std::string& path : paths) {
    texts.push_back(open_text(path, model, files, seqlen, limit));
    for (std::size_t other = 0; other + 1 < texts.size(); ++other) {
      if (texts[other].name != texts.back().name) continue;
      throw UsageError({.what = concat("two files are named '", texts.back().name, "'"),
                        .where = "option --ppl",
                        .fix = "results are told apart by file name: rename one"});
    }
  }
  return texts;
}

}  // namespace lrq::cli

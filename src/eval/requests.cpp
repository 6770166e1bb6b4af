#include "src/eval/requests.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <ATen/ATen.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::eval {
namespace {

using io::Tokenizer;

/// The choice as ids of any length.
Request encode(const Tokenizer& tokenizer, const Choice& choice, Tokenize tokenize) {
  const bool together = tokenize == Tokenize::kTogether;
  const auto special = together ? Tokenizer::AddSpecial::kYes : Tokenizer::AddSpecial::kNo;
  Request request{.ids = tokenizer.encode(choice.context, special)};
  const std::int64_t context = std::ssize(request.ids);
  if (together) {
    request.ids = tokenizer.encode(choice.context + choice.continuation, special);
  } else {
    const auto more = tokenizer.encode(choice.continuation, special);
    request.ids.insert(request.ids.end(), more.begin(), more.end());
  }
  request.targets = std::ssize(request.ids) - context;
  if (context == 0) {
    throw DataError({.what = "no id stands before the continuation, expected at least one",
                     .where = "context of the pair",
                     .fix = "give a context: this way of tokenizing puts no BOS in front"});
  }
  return request;
}

}  // namespace

Request make_request(const Tokenizer& tokenizer, const Choice& choice, Tokenize tokenize,
                     std::int64_t longest) {
  Request request = encode(tokenizer, choice, tokenize);
  if (request.targets < 1) {
    throw DataError({.what = concat("the continuation adds ", request.targets,
                                    " ids to those of the context, expected at least 1"),
                     .where = "continuation of the pair",
                     .fix = "begin it with a space, or use --zero-shot-tokenize separate"});
  }
  if (request.targets > longest) {
    throw DataError({.what = concat("the continuation has ", request.targets,
                                    " ids, and the model takes ", longest),
                     .where = "continuation of the pair",
                     .fix = "leave the document out"});
  }
  const std::int64_t surplus = std::ssize(request.ids) - (longest + 1);
  if (surplus > 0) {
    request.ids.erase(request.ids.begin(), request.ids.begin() + surplus);
    request.truncated = true;
  }
  return request;
}

std::vector<Request> make_requests(const Tokenizer& tokenizer, const Task& task, Tokenize tokenize,
                                   std::int64_t longest) {
  std::vector<Request> requests;
  for (const Document& document : task.documents) {
    for (std::size_t i = 0; i < document.choices.size(); ++i) {
      try {
        requests.push_back(make_request(tokenizer, document.choices[i], tokenize, longest));
      } catch (const DataError& error) {
        ErrorText text = error.text();
        text.where = concat("task ", task.name, ", document ", document.id, ", pair ", i);
        throw DataError(std::move(text));
      }
    }
  }
  return requests;
}

std::vector<Passage> make_passages(const std::vector<Request>& requests) {
  std::vector<Passage> passages;
  for (const Request& request : requests) {
    const auto end = request.ids.end();
    Passage passage{.input = {request.ids.begin(), end - 1},
                    .targets = {{end - request.targets, end}}};
    const bool shares = !passages.empty() && passages.back().input == passage.input &&
                        passages.back().targets.front().size() == passage.targets.front().size();
    if (shares) {
      passages.back().targets.push_back(std::move(passage.targets.front()));
    } else {
      passages.push_back(std::move(passage));
    }
  }
  return passages;
}

at::Tensor pack_contexts(const std::vector<Request>& requests, std::int64_t length) {
  std::vector<std::int32_t> all;
  std::vector<std::int32_t> before;
  for (const Request& request : requests) {
    std::vector<std::int32_t> context(request.ids.begin(), request.ids.end() - request.targets);
    if (context != before) all.insert(all.end(), context.begin(), context.end());
    before = std::move(context);
  }
  const std::int64_t count = std::ssize(all);
  const std::int64_t columns = std::min(length, count);
  const std::int64_t rows = columns > 0 ? count / columns : 0;
  return at::tensor(all, at::device(at::kCPU).dtype(at::kInt))
      .narrow(0, 0, rows * columns)
      .view({rows, columns});
}

}  // namespace lrq::eval

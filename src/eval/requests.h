#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/tokenizer.h"
#include "src/eval/evaluator.h"
#include "src/eval/task_file.h"

namespace lrq::eval {

/// How context and continuation become ids.
enum class Tokenize {
  kTogether,  ///< as one text, with the tokenizer's BOS; the continuation is what follows the first
              ///< len(ids(context)) ids
  kSeparate   ///< each alone, without BOS, as the published code does it
};

/// One choice as ids.
struct Request {
  std::vector<std::int32_t> ids;  ///< context and continuation
  std::int64_t targets = 0;       ///< ids of the continuation: the last so many
  bool truncated = false;         ///< the beginning of the context had to go
};

/// Turn a choice into ids.  What is longer than `longest` + 1 ids (the last one is never an input)
/// loses its left end, BOS included.
/// Throws DataError: nothing stands before the continuation, the continuation has no id of its own
/// or more than `longest`.
[[nodiscard]] Request make_request(const io::Tokenizer& tokenizer, const Choice& choice,
                                   Tokenize tokenize, std::int64_t longest);

/// The requests of all choices of all documents, in order.  Throws DataError with the document.
[[nodiscard]] std::vector<Request> make_requests(const io::Tokenizer& tokenizer, const Task& task,
                                                 Tokenize tokenize, std::int64_t longest);

/// Passages whose alternatives are the requests in order.  Neighbours that differ only in their
/// last id (choices of one token) share one passage: the model never sees that id.
[[nodiscard]] std::vector<Passage> make_passages(const std::vector<Request>& requests);

/// The contexts of the requests, each once for neighbours that share it, joined and cut into
/// windows [n, length] int32; the rest is dropped, but one shorter window is made where there is no
/// whole one.  What test-time adaptation learns from: no continuation is in it.
[[nodiscard]] at::Tensor pack_contexts(const std::vector<Request>& requests, std::int64_t length);

}  // namespace lrq::eval

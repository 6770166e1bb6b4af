#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "src/eval/evaluator.h"

namespace lrq::eval {

/// exp of the mean of the windows' losses.
[[nodiscard]] double perplexity(const std::vector<double>& window_losses);

/// Cut a stream of token ids [n] into windows [n / length, length]; the rest is dropped.
/// limit: at most so many windows (0: all).  Throws DataError if there is not one.
[[nodiscard]] at::Tensor cut_into_windows(const at::Tensor& stream, std::int64_t length,
                                          std::int64_t limit);

}  // namespace lrq::eval

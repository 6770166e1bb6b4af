#include "src/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::eval {

double perplexity(const std::vector<double>& window_losses) {
  const double sum = std::accumulate(window_losses.begin(), window_losses.end(), 0.0);
  return std::exp(sum / static_cast<double>(window_losses.size()));
}

at::Tensor cut_into_windows(const at::Tensor& stream, std::int64_t length, std::int64_t limit) {
  std::int64_t count = stream.numel() / length;
  if (count == 0) {
    throw DataError(
        {.what = concat("the text has ", stream.numel(), " tokens, and one window needs ", length),
         .where = "option --ppl",
         .fix = "give more text, or a smaller --seqlen"});
  }
  if (limit > 0) count = std::min(count, limit);
  return stream.narrow(0, 0, count * length).view({count, length}).contiguous();
}

}  // namespace lrq::eval

#include "src/quant/hessian.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"

namespace lrq::quant {
namespace {

constexpr std::int64_t kMostChunks = 8;

// The left and the right half of one node of the tree.
bool siblings(const IndexRange& left, const IndexRange& right) {
  return left.count == right.count && left.first % (2 * left.count) == 0;
}

}  // namespace

std::int64_t sum_chunks(std::int64_t samples) { return std::min(kMostChunks, samples); }

IndexRange sum_chunk(std::int64_t chunk, std::int64_t samples) {
  const std::int64_t chunks = sum_chunks(samples);
  expect(chunk >= 0 && chunk < chunks, "a chunk has an index below the number of chunks");
  const std::int64_t first = chunk * samples / chunks;
  return {.first = first, .count = (chunk + 1) * samples / chunks - first};
}

HessianSum::HessianSum(std::int64_t channels, std::int64_t samples, at::Device device,
                       std::int64_t first_chunk)
    : channels_(channels), samples_(samples), device_(device), next_chunk_(first_chunk) {
  expect(channels > 0 && samples > 0, "a Hessian has channels and samples");
  next_sample_ = sum_chunk(first_chunk, samples).first;
}

void HessianSum::add(std::int64_t sample, const at::Tensor& x) {
  const c10::NoGradGuard no_grad;
  expect(sample == next_sample_ && sample < samples_, "samples come in order");
  expect(x.dim() == 2 || (x.dim() == 3 && x.size(0) == 1), "a sample is [T, C] or [1, T, C]");
  expect(x.size(-1) == channels_ && x.device() == device_,
         "a sample has the Hessian's channels and device");
  const at::Tensor rows = x.reshape({-1, channels_}).to(at::kFloat).contiguous();
  const at::Tensor product = at::mm(rows.t(), rows);
  if (running_.defined()) {
    running_.add_(product);
  } else {
    running_ = product;
  }
  ++next_sample_;
  const IndexRange chunk = sum_chunk(next_chunk_, samples_);
  if (next_sample_ < chunk.first + chunk.count) return;
  append({.chunks = {.first = next_chunk_, .count = 1}, .sum = std::exchange(running_, {})});
}

void HessianSum::append(Part part) {
  const c10::NoGradGuard no_grad;
  expect(!running_.defined() && part.chunks.first == next_chunk_ && part.chunks.count > 0,
         "parts of a Hessian come in order and without a gap");
  expect(part.sum.sizes() == at::IntArrayRef({channels_, channels_}) &&
             part.sum.device() == device_ && part.sum.scalar_type() == at::kFloat,
         "a part of a Hessian is [C, C] float32 on its device");
  next_chunk_ += part.chunks.count;
  next_sample_ =
      next_chunk_ < sum_chunks(samples_) ? sum_chunk(next_chunk_, samples_).first : samples_;
  while (!parts_.empty() && siblings(parts_.back().chunks, part.chunks)) {
    const Part left = std::move(parts_.back());
    parts_.pop_back();
    part = {.chunks = {.first = left.chunks.first, .count = 2 * left.chunks.count},
            .sum = left.sum + part.sum};
  }
  parts_.push_back(std::move(part));
}

const std::vector<HessianSum::Part>& HessianSum::parts() const {
  expect(!running_.defined(), "parts of a Hessian are asked for between two chunks");
  return parts_;
}

at::Tensor HessianSum::value() const {
  const c10::NoGradGuard no_grad;
  expect(next_sample_ == samples_ && parts_.front().chunks.first == 0,
         "a Hessian is asked for when all samples are in it");
  // What still waits has no sibling: it moved up the levels alone.
  at::Tensor sum = parts_.back().sum;
  for (auto part = parts_.rbegin() + 1; part != parts_.rend(); ++part) sum = part->sum + sum;
  return sum * (2.0 / static_cast<double>(samples_));
}

}  // namespace lrq::quant

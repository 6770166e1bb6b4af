#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace lrq::quant {

/// Samples or chunks first .. first + count - 1.
struct IndexRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  friend bool operator==(const IndexRange&, const IndexRange&) = default;
};

/// Count the chunks that a sum over samples is cut into: min(8, samples).
[[nodiscard]] std::int64_t sum_chunks(std::int64_t samples);

/// Say which samples chunk c holds: c * samples / K up to (c + 1) * samples / K, K = sum_chunks;
/// contiguous, and a function of these two numbers alone.
[[nodiscard]] IndexRange sum_chunk(std::int64_t chunk, std::int64_t samples);

/// Sum the second moments of a linear layer's input over the samples, always in the same order:
///   H = (2 / N) * sum over samples of X^T X,  X [T, C] one sample
/// The samples of a chunk are added in order, the chunk sums by a fixed binary tree over neighbours
/// (an odd last one moves up a level alone).  So replicas may each sum any run of whole chunks,
/// hand over their parts and get the bits of one rank. Source: GPTQ (Frantar et al. 2022). Differs:
/// a mean at the end, not a running one. Products and sums are float32: a chunk adds few terms, and
/// Cholesky's damping is far larger than what is lost; float64 would cost twice the memory and half
/// the speed. Memory: at most four [C, C] (three finished subtrees and a running chunk) and a
/// product. Threads: one at a time.
class HessianSum {
 public:
  /// The sum of all chunks below one node of the tree.
  struct Part {
    IndexRange chunks;
    at::Tensor sum;  ///< [C, C] float32, sum of X^T X, not divided
  };

  /// samples: how many there are in all.  first_chunk: where this replica's share begins.
  HessianSum(std::int64_t channels, std::int64_t samples, at::Device device,
             std::int64_t first_chunk = 0);

  /// x [T, C] or [1, T, C], any floating dtype, on the sum's device; sample: its place among all
  /// samples.  Throws BugError unless they come in order from the first chunk's first one.
  void add(std::int64_t sample, const at::Tensor& x);

  /// Append what another replica summed, in chunk order.  Throws BugError on a gap.
  void append(Part part);

  /// The finished subtrees, in chunk order.  Throws BugError inside a chunk.
  [[nodiscard]] const std::vector<Part>& parts() const;

  /// H [C, C] float32.  Throws BugError unless all samples are in it.
  [[nodiscard]] at::Tensor value() const;

 private:
  std::int64_t channels_;
  std::int64_t samples_;
  at::Device device_;
  std::int64_t next_sample_ = 0;
  std::int64_t next_chunk_;
  at::Tensor running_;       // sum over the samples of chunk next_chunk_ so far; undefined before
  std::vector<Part> parts_;  // neighbours that still wait for their sibling
};

}  // namespace lrq::quant

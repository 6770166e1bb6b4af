#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/transform/draws.h"
#include "src/transform/rotation.h"

namespace lrq::transform {

/// What index of the largest entry a greedy step turns: its column, the outlier channel, or its
/// row, the block of a token, modulo B.
enum class OutlierIndex { kColumn, kRow };

struct GreedyOptions {
  std::int64_t block = 128;  ///< B, a divisor of C
  std::int64_t steps = 256;
  OutlierIndex index = OutlierIndex::kColumn;
  Blocks blocks = Blocks::kShared;
};

/// Make the fixed orthogonal matrix that spreads one coordinate over all: its row 0 is constant,
/// 1 / sqrt(n), its column 0 is 0 but for two entries.
/// Source: DuQuant.  Returns [n, n] float64.
[[nodiscard]] at::Tensor base_rotation(std::int64_t n);

/// Mix the base's columns but its first: base_rotation(n) blockdiag(1, Q'), Q' from the QR
/// factorisation of normal numbers [n - 1, n - 1].  Returns [n, n] float64.
[[nodiscard]] at::Tensor random_rotation(std::int64_t n, const Draws& draws);

/// What a greedy search has seen; the vectors have one entry more than there were steps.
struct GreedyTrace {
  at::Tensor rotation;                 ///< [B, B] float64, the product of the first `kept` steps
  std::int64_t kept = 0;               ///< 0: the identity
  std::vector<double> peaks;           ///< largest minus smallest entry before each step, and last
  std::vector<std::int64_t> outliers;  ///< d before each step, and last
};

/// Turn rows again and again where their largest entry lies, then keep the steps up to the smallest
/// peak (the first of equal ones):
///   d = index of the largest or of the smallest entry, whichever is larger in magnitude (else the
///       smallest);   A <- A S(d) base S(d),   S(d): exchange of coordinates 0 and d
/// rows [M, B] float32 or float64, the dtype in which the search is carried on: it only decides on
/// d and `kept`; base [B, B] float64.
[[nodiscard]] GreedyTrace greedy_steps(const at::Tensor& rows, const at::Tensor& base,
                                       std::int64_t steps, OutlierIndex index);

/// Find a block rotation that lowers the outliers of x, by greedy_steps from one random_rotation a
/// search; with Blocks::kSeparate there is a search for every block, in order.
/// Source: DuQuant, greedy block rotation.  Differs: d is the outlier's channel, as the paper has
/// it; the published code takes the row modulo B (OutlierIndex::kRow).  Products in float64.
/// x [N, C]: any sample of the site's input, N > 0.
/// Returns the parameter of kind rotation, [B, B] or [C / B, B, B] float32 on x's device.
[[nodiscard]] at::Tensor greedy_rotation(const at::Tensor& x, const GreedyOptions& options,
                                         const Draws& draws);

}  // namespace lrq::transform

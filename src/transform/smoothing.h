#pragma once

#include <ATen/core/Tensor.h>

namespace lrq::transform {

/// Smallest magnitude that a smoothing scale may have when it is used.
inline constexpr double kSmallestScale = 1e-2;

/// Start smoothing scales from the logarithmic activation equivalent.
///   a = max(absmax, 1e-5);  s = max(a / log2(2 + a), 1e-5)
/// Source: LRQuant, LAE.  absmax [C] float32.  Returns [C] float32.
[[nodiscard]] at::Tensor lae_scale(const at::Tensor& absmax);

/// Start smoothing scales as SmoothQuant does: s = max(absmax^alpha / w^(1-alpha), 1e-5),
/// w = max(column maximum of |W|, 1e-5).  absmax [C], weight [O, C].  Returns [C] float32.
[[nodiscard]] at::Tensor smoothquant_scale(const at::Tensor& absmax, const at::Tensor& weight,
                                           double alpha);

/// Lift entries with |s| < kSmallestScale to sign(s) * kSmallestScale; 0 counts as positive.
/// Differs: the published code leaves an exact zero, which divides by zero.
/// Gradient: passed on whole, as the published code overwrites the data outside the graph.
[[nodiscard]] at::Tensor truncate_scale(const at::Tensor& scale);

/// Repeat each head-sized chunk of a key/value vector for the query heads that share it.
/// v [kv_heads * head_dim] -> [kv_heads * repeats * head_dim] in query-head order.
[[nodiscard]] at::Tensor repeat_heads(const at::Tensor& v, std::int64_t kv_heads,
                                      std::int64_t repeats);

/// Reduce a query-ordered vector to key/value heads: maximum (or mean) over the sharing heads.
[[nodiscard]] at::Tensor max_over_shared_heads(const at::Tensor& v, std::int64_t kv_heads,
                                               std::int64_t repeats);
[[nodiscard]] at::Tensor mean_over_shared_heads(const at::Tensor& v, std::int64_t kv_heads,
                                                std::int64_t repeats);

/// Spread one value per rotary pair over the channels j and j + d/2 of each head.
/// pairs [heads * d/2] -> [heads * d].
[[nodiscard]] at::Tensor spread_rotary_pairs(const at::Tensor& pairs, std::int64_t heads);

}  // namespace lrq::transform

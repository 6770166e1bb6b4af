#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "src/transform/draws.h"
#include "src/transform/rotation.h"

namespace lrq::transform {

/// Which way a pair of channels is turned: from the outlier's values to their target, or, as the
/// published code does, by the same angle the other way.
enum class GivensTurn { kTarget, kReference };

struct UniformOptions {
  std::int64_t block = 128;  ///< B, even, a divisor of C
  std::int64_t steps = 16;
  std::int64_t random_permutations = 3;  ///< a step, each with plane rotations behind it
  GivensTurn givens = GivensTurn::kTarget;
  Blocks blocks = Blocks::kShared;
};

/// Build a block rotation from reflections, permutations and plane rotations that send the block
/// with the largest |value| to random targets of even spread.  With u that block of B values, r
/// uniform in [0, 1), a step is
///   t = r ||u|| / ||r||,  w = u - t,  reflect all blocks along w: u becomes t;
///   then a number of times: permute at random; choose u again; turn each pair (u_2i, u_2i+1) to
///   r_i ||(u_2i, u_2i+1)|| / ||r_i||,  r_i uniform in [0, 1)^2.
/// Factors are applied one by one at 2 to 4 operations a value; only the product is a matrix.
/// Source: RUQuant, stage 1.  Differs: pairs are turned towards their target (GivensTurn); w.w <
/// 1e-10 leaves out the reflection alone, not the rest of the step; a pair whose values or random
/// numbers are all 0 stays, where the published code gets NaN; the product is made in float64,
/// there in float16; numbers are drawn per step (draw_key).
/// x [N, C]: any sample of the site's input, N > 0.   draws: those of step 0 .. steps-1, each asked
/// for once; with Blocks::kSeparate the blocks draw from a step's in order.
/// Returns the parameter of kind rotation, [B, B] or [C / B, B, B] float32 on x's device.
[[nodiscard]] at::Tensor uniform_rotation(const at::Tensor& x, const UniformOptions& options,
                                          const std::function<Draws(std::int64_t step)>& draws);

}  // namespace lrq::transform

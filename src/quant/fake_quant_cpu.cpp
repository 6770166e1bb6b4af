#include "src/quant/fake_quant_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "src/base/check.h"

namespace lrq::quant::cpu {
namespace {

constexpr int kLanes = 16;

struct Bounds {
  float low;
  float high;
};

// One range of one row, with what scales it.
struct Range {
  const float* data;
  const float* column;  // null = ones
  float row;
  std::int64_t size;
};

struct Levels {
  float step;
  float zero;
  float q_max;
};

struct Sums {
  float d_step;
  float at_low;   // values equal to the minimum
  float at_high;  // values equal to the maximum
};

struct Kernels {
  Bounds (*scale_range)(const Range&, float* scaled);
  void (*round_range)(const float* scaled, std::int64_t size, const Levels&, float* y);
  Sums (*differentiate_range)(const Range&, const float* dy, const Levels&, Bounds, float* scaled,
                              float* d_scaled);
  float (*spread_range)(const Range&, const float* scaled, const float* d_scaled, Bounds,
                        Bounds d_bounds, float* d_data, float* d_column);
};

// 16 values from `from`, or, where fewer are left, a copy filled up with the last of them: a
// repeated value changes no minimum.
inline const float* block_or_last(const float* from, std::int64_t left, float* spare) {
  if (left >= kLanes) return from;
  for (int l = 0; l < kLanes; ++l) spare[l] = from[l < left ? l : left - 1];
  return spare;
}

// The same, filled up with zeros: they change no sum.
inline const float* block_or_zero(const float* from, std::int64_t left, float* spare) {
  if (left >= kLanes) return from;
  for (int l = 0; l < kLanes; ++l) spare[l] = l < left ? from[l] : 0.0F;
  return spare;
}

float sum_of(float* lanes) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

Bounds bounds_of(const float* lows, const float* highs) {
  return {*std::min_element(lows, lows + kLanes), *std::max_element(highs, highs + kLanes)};
}

}  // namespace
}  // namespace lrq::quant::cpu

// clang knows no `#pragma GCC target`; other processors have one instruction set here.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LRQ_X86_KERNELS 1
#else
#define LRQ_X86_KERNELS 0
#endif

namespace lrq::quant::cpu {
namespace {

#define LRQ_KERNEL base
#define LRQ_WIDTH 4
#include "src/quant/fake_quant_kernel.inc"
#undef LRQ_KERNEL
#undef LRQ_WIDTH

#if LRQ_X86_KERNELS
#pragma GCC push_options
#pragma GCC target("avx2")
#define LRQ_KERNEL avx2
#define LRQ_WIDTH 8
#include "src/quant/fake_quant_kernel.inc"
#undef LRQ_KERNEL
#undef LRQ_WIDTH
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512")
#define LRQ_KERNEL avx512
#define LRQ_WIDTH 16
#include "src/quant/fake_quant_kernel.inc"
#undef LRQ_KERNEL
#undef LRQ_WIDTH
#pragma GCC pop_options
#endif

const Kernels& kernels_for(InstructionSet set) {
  expect(supported(set), "the kernels of an instruction set run where it is supported");
#if LRQ_X86_KERNELS
  if (set == InstructionSet::kAvx512) return avx512::kKernels;
  if (set == InstructionSet::kAvx2) return avx2::kKernels;
#endif
  return base::kKernels;
}

constexpr auto kStepFrom = static_cast<float>(kSmallestStep);
constexpr auto kStepTo = static_cast<float>(kLargestStep);
constexpr auto kZeroTo = static_cast<float>(kLargestZero);
static_assert(kStepFrom == 1e-5F && kStepTo == 1e4F && kZeroTo == 1e4F);

// How one range becomes its levels, kept in parts because the way back needs them.
struct RangeLevels {
  Bounds widened;  // before clipping
  Bounds clipped;
  float upper;
  float lower;
  float raw_step;
  Levels levels;
};

float step_divisor(const Grid& grid) {
  const std::int64_t half = std::int64_t{1} << (grid.bits - 1);
  return static_cast<float>(grid.symmetric ? half - 1 : grid.q_max());
}

float zero_of(const Grid& grid, float low, float step) {
  if (grid.symmetric) return step_divisor(grid) + (grid.zero_point ? 0.0F : 1.0F);
  const float exact = -low / step;
  return std::nearbyint(exact < -kZeroTo ? -kZeroTo : exact > kZeroTo ? kZeroTo : exact);
}

// Plain arithmetic on one range, the same for every instruction set; as step_and_zero does it.
RangeLevels levels_of(Bounds bounds, float upper, float lower, const Grid& grid) {
  RangeLevels result{.widened = bounds,
                     .clipped = {},
                     .upper = upper,
                     .lower = lower,
                     .raw_step = 0,
                     .levels = {.step = 0, .zero = 0, .q_max = static_cast<float>(grid.q_max())}};
  if (grid.include_zero && bounds.low > 0) result.widened.low = 0;
  if (grid.include_zero && bounds.high < 0) result.widened.high = 0;
  const Bounds clipped{result.widened.low * lower, result.widened.high * upper};
  result.clipped = clipped;
  const float length = grid.symmetric ? std::max(std::abs(clipped.high), std::abs(clipped.low))
                                      : clipped.high - clipped.low;
  result.raw_step = length / step_divisor(grid);
  float step = std::clamp(result.raw_step, kStepFrom, kStepTo);
  if (!std::isfinite(clipped.low) || !std::isfinite(clipped.high)) {
    step = std::numeric_limits<float>::quiet_NaN();
  }
  result.levels.step = step;
  result.levels.zero = zero_of(grid, clipped.low, step);
  return result;
}

float sign_of(float value) { return value > 0 ? 1.0F : value < 0 ? -1.0F : 0.0F; }

// Carry the step's gradient on to the clipped bounds.
Bounds bounds_gradient(const RangeLevels& range, float d_step, const Grid& grid) {
  const bool free = range.raw_step >= kStepFrom && range.raw_step <= kStepTo;
  const float d_length = free && !std::isnan(range.levels.step) ? d_step / step_divisor(grid) : 0;
  if (!grid.symmetric) return {-d_length, d_length};
  const float low = std::abs(range.clipped.low);
  const float high = std::abs(range.clipped.high);
  const float to_high = high > low ? 1.0F : high < low ? 0.0F : 0.5F;
  return {d_length * (1.0F - to_high) * sign_of(range.clipped.low),
          d_length * to_high * sign_of(range.clipped.high)};
}

// One group of one row: where it begins, how long it is, how many zeros it is thought longer.
struct Place {
  std::int64_t row;
  std::int64_t begin;  // within the row
  std::int64_t size;
  std::int64_t padding;
  std::int64_t index;  // among all ranges
};

template <typename Visit>
void for_each_range(const Operands& in, const Grid& grid, const Visit& visit) {
  const std::int64_t group = grid.group_size <= 0 ? in.columns : grid.group_size;
  std::int64_t index = 0;
  for (std::int64_t row = 0; row < in.rows; ++row) {
    for (std::int64_t begin = 0; begin < in.columns; begin += group) {
      const std::int64_t size = std::min(group, in.columns - begin);
      visit(Place{row, begin, size, group - size, index});
      ++index;
    }
  }
}

Range range_at(const Operands& in, const Place& place) {
  return {.data = in.data + place.row * in.columns + place.begin,
          .column = in.column_scale ? in.column_scale + place.begin : nullptr,
          .row = in.row_scale ? in.row_scale[place.row] : 1.0F,
          .size = place.size};
}

RangeLevels levels_at(const Operands& in, const Place& place, Bounds bounds, const Grid& grid) {
  return levels_of(bounds, in.clip_upper ? in.clip_upper[place.index] : 1.0F,
                   in.clip_lower ? in.clip_lower[place.index] : 1.0F, grid);
}

// Room for the longest range in whole blocks.
std::vector<float> range_buffer(const Operands& in, const Grid& grid) {
  const std::int64_t longest =
      grid.group_size <= 0 ? in.columns : std::min(grid.group_size, in.columns);
  return std::vector<float>(static_cast<std::size_t>(longest + kLanes));
}

// Ties, without those among the values that the last, partly filled block repeats.  The zeros of a
// shorter last group need no share: on its symmetric grid a bound of 0 has no gradient.
float ties(float counted, float bound, const Place& place, float last) {
  const std::int64_t repeated = (kLanes - place.size % kLanes) % kLanes;
  return last == bound ? counted - static_cast<float>(repeated) : counted;
}

}  // namespace

bool supported(InstructionSet set) {
#if LRQ_X86_KERNELS
  if (set == InstructionSet::kAvx2) return __builtin_cpu_supports("avx2") != 0;
  if (set == InstructionSet::kAvx512) {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
           __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0;
  }
#endif
  return set == InstructionSet::kBase;
}

InstructionSet best_instruction_set() {
  if (supported(InstructionSet::kAvx512)) return InstructionSet::kAvx512;
  return supported(InstructionSet::kAvx2) ? InstructionSet::kAvx2 : InstructionSet::kBase;
}

void fake_quant_forward(const Operands& in, const Grid& grid, float* y, float* bounds,
                        InstructionSet set) {
  const Kernels& kernels = kernels_for(set);
  std::vector<float> scaled = range_buffer(in, grid);
  for_each_range(in, grid, [&](const Place& place) {
    Bounds found = kernels.scale_range(range_at(in, place), scaled.data());
    if (place.padding > 0 && found.low > 0) found.low = 0;
    if (place.padding > 0 && found.high < 0) found.high = 0;
    bounds[2 * place.index] = found.low;
    bounds[2 * place.index + 1] = found.high;
    const RangeLevels range = levels_at(in, place, found, grid);
    kernels.round_range(scaled.data(), place.size, range.levels,
                        y + place.row * in.columns + place.begin);
  });
}

void fake_quant_backward(const Operands& in, const Grid& grid, const float* bounds, const float* dy,
                         const Gradients& out, InstructionSet set) {
  const Kernels& kernels = kernels_for(set);
  const bool reaches_data = out.data || out.column_scale || out.row_scale;
  std::vector<float> scaled = range_buffer(in, grid);
  std::vector<float> d_scaled = range_buffer(in, grid);
  if (out.column_scale) std::fill_n(out.column_scale, in.columns, 0.0F);
  if (out.row_scale) std::fill_n(out.row_scale, in.rows, 0.0F);
  for_each_range(in, grid, [&](const Place& place) {
    const Range values = range_at(in, place);
    const Bounds found{bounds[2 * place.index], bounds[2 * place.index + 1]};
    const RangeLevels range = levels_at(in, place, found, grid);
    const std::int64_t offset = place.row * in.columns + place.begin;
    const Sums sums = kernels.differentiate_range(values, dy + offset, range.levels, found,
                                                  scaled.data(), d_scaled.data());
    const Bounds d_clipped = bounds_gradient(range, sums.d_step, grid);
    if (out.clip_upper) out.clip_upper[place.index] = d_clipped.high * range.widened.high;
    if (out.clip_lower) out.clip_lower[place.index] = d_clipped.low * range.widened.low;
    if (!reaches_data) return;
    const float last = scaled[static_cast<std::size_t>(place.size - 1)];
    // A bound that include_zero widened is no longer the data's.
    const bool low_is_data = range.widened.low == found.low;
    const bool high_is_data = range.widened.high == found.high;
    const Bounds each{
        low_is_data ? d_clipped.low * range.lower / ties(sums.at_low, found.low, place, last) : 0,
        high_is_data ? d_clipped.high * range.upper / ties(sums.at_high, found.high, place, last)
                     : 0};
    const float d_row = kernels.spread_range(
        values, scaled.data(), d_scaled.data(), found, each, out.data ? out.data + offset : nullptr,
        out.column_scale ? out.column_scale + place.begin : nullptr);
    if (out.row_scale) out.row_scale[place.row] += d_row;
  });
}

}  // namespace lrq::quant::cpu

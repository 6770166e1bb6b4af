#include "src/pipeline/calibration_windows.h"

#include <bit>

#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {
namespace {

constexpr std::size_t kWords = 624;
constexpr std::size_t kShift = 397;

}  // namespace

PythonRandom::PythonRandom(std::uint64_t seed) {
  // init_genrand(19650218), then init_by_array over the seed's 32-bit words (at least one).
  std::vector<std::uint32_t> key{static_cast<std::uint32_t>(seed)};
  if (seed >> 32 != 0) key.push_back(static_cast<std::uint32_t>(seed >> 32));
  state_[0] = 19650218U;
  for (std::uint32_t i = 1; i < kWords; ++i) {
    state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  }
  std::size_t i = 1;
  std::size_t j = 0;
  for (std::size_t k = std::max(kWords, key.size()); k > 0; --k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525U)) + key[j] +
                static_cast<std::uint32_t>(j);
    if (++i >= kWords) {
      state_[0] = state_[kWords - 1];
      i = 1;
    }
    if (++j >= key.size()) j = 0;
  }
  for (std::size_t k = kWords - 1; k > 0; --k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941U)) -
                static_cast<std::uint32_t>(i);
    if (++i >= kWords) {
      state_[0] = state_[kWords - 1];
      i = 1;
    }
  }
  state_[0] = 0x80000000U;
}

void PythonRandom::refill() {
  for (std::size_t i = 0; i < kWords; ++i) {
    const std::uint32_t mixed =
        (state_[i] & 0x80000000U) | (state_[(i + 1) % kWords] & 0x7fffffffU);
    state_[i] =
        state_[(i + kShift) % kWords] ^ (mixed >> 1) ^ ((mixed & 1U) != 0 ? 0x9908b0dfU : 0);
  }
  next_ = 0;
}

std::uint32_t PythonRandom::next_word() {
  if (next_ == kWords) refill();
  std::uint32_t word = state_[next_++];
  word ^= word >> 11;
  word ^= (word << 7) & 0x9d2c5680U;
  word ^= (word << 15) & 0xefc60000U;
  return word ^ (word >> 18);
}

std::int64_t PythonRandom::randint(std::int64_t low, std::int64_t high) {
  expect(low <= high && high - low < std::int64_t{0xffffffff}, "randint: range of 1 .. 2^32 - 1");
  const auto count = static_cast<std::uint32_t>(high - low + 1);
  const int unused = std::countl_zero(count);
  std::uint32_t draw = next_word() >> unused;
  while (draw >= count) draw = next_word() >> unused;
  return low + draw;
}

std::vector<std::int64_t> window_starts(std::int64_t tokens, std::int64_t samples,
                                        std::int64_t length, std::int64_t stride,
                                        std::uint64_t seed) {
  const std::int64_t needed = stride > 0 ? (samples - 1) * stride + length : length + 1;
  if (tokens < needed) {
    throw DataError(
        {.what = concat("the calibration text has ", tokens, " tokens, and ", samples,
                        " samples of ", length, " tokens need at least ", needed),
         .where = stride > 0 ? concat("--calib with --calib-stride ", stride) : "--calib",
         .fix = "give more text, or fewer or shorter samples (--nsamples, --seqlen)"});
  }
  std::vector<std::int64_t> starts;
  PythonRandom random(seed);
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    starts.push_back(stride > 0 ? sample * stride : random.randint(0, tokens - length - 1));
  }
  return starts;
}

}  // namespace lrq::pipeline

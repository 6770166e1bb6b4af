#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace lrq::pipeline {

/// Python's `random` module (MT19937 seeded by init_by_array), so that the published code's
/// calibration windows can be drawn again.  Source: docs/methods.md, "Calibration windows".
class PythonRandom {
 public:
  explicit PythonRandom(std::uint64_t seed);
  [[nodiscard]] std::uint32_t next_word();
  /// Draw from low .. high, both included; high - low below 2^32 - 1.
  [[nodiscard]] std::int64_t randint(std::int64_t low, std::int64_t high);

 private:
  void refill();
  std::array<std::uint32_t, 624> state_{};
  std::size_t next_ = 624;
};

/// First tokens of `samples` windows of `length` tokens in a stream of `tokens`: random ones drawn
/// by seed (stride 0: start = randint(0, tokens - length - 1)), or every `stride` tokens.
/// Throws DataError if the stream is too short (with the tokens found and needed).
[[nodiscard]] std::vector<std::int64_t> window_starts(std::int64_t tokens, std::int64_t samples,
                                                      std::int64_t length, std::int64_t stride,
                                                      std::uint64_t seed);

}  // namespace lrq::pipeline

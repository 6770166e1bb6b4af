#pragma once

#include <cstdint>
#include <initializer_list>

namespace lrq {

/// Take one step of SplitMix64, modulo 2^64.
[[nodiscard]] constexpr std::uint64_t splitmix64(std::uint64_t state) {
  state += 0x9e3779b97f4a7c15U;
  state = (state ^ (state >> 30U)) * 0xbf58476d1ce4e5b9U;
  state = (state ^ (state >> 27U)) * 0x94d049bb133111ebU;
  return state ^ (state >> 31U);
}

/// Make the seed of one generator from the run's seed and what the draws are for:
///   h = splitmix64(seed), then for each part in turn h = splitmix64(h xor part)
/// parts: block first, then what tells two draws of a block apart (site, stage, step), never a
/// rank or a clock.  So no draw depends on the order of work.  Threads: any.
[[nodiscard]] constexpr std::uint64_t draw_key(std::uint64_t seed,
                                               std::initializer_list<std::uint64_t> parts) {
  std::uint64_t key = splitmix64(seed);
  for (const std::uint64_t part : parts) key = splitmix64(key ^ part);
  return key;
}

}  // namespace lrq

#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace lrq {

/// Most memory that this process has had resident so far.
[[nodiscard]] std::uint64_t peak_memory_bytes();

/// Keep up to 256 MiB of freed memory in the process, and of tensors below 32 MiB, which every step
/// makes anew: getting their pages from the kernel again costs 5 to 15 % of a step.  For the start
/// of a program; does nothing but with glibc, whose MALLOC_TRIM_THRESHOLD_ in the environment wins.
void keep_freed_memory();

/// Who made the processor ("AuthenticAMD"): libraries choose their kernels by it.
[[nodiscard]] std::string cpu_vendor();

/// Seconds since the object was made.
class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace lrq

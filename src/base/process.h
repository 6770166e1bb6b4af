#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace lrq {

/// Most memory that this process has had resident so far.
[[nodiscard]] std::uint64_t peak_memory_bytes();

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

#include "src/base/process.h"

#include <cstdlib>
#include <fstream>

#include <sys/resource.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace lrq {

std::uint64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U;
}

void keep_freed_memory() {
#ifdef __GLIBC__
  if (std::getenv("MALLOC_TRIM_THRESHOLD_") != nullptr) return;
  constexpr int kMiB = 1 << 20;
  // Setting either ends glibc's own adjustment of both, so both are set.
  ::mallopt(M_MMAP_THRESHOLD, 32 * kMiB);  // the most that it takes
  ::mallopt(M_TRIM_THRESHOLD, 256 * kMiB);
#endif
}

std::string cpu_vendor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("vendor_id")) return line.substr(line.find(':') + 2);
  }
  return "unknown vendor";
}

}  // namespace lrq

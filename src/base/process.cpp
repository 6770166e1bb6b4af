#include "src/base/process.h"

#include <fstream>

#include <sys/resource.h>

namespace lrq {

std::uint64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U;
}

std::string cpu_description() {
  std::ifstream info("/proc/cpuinfo");
  std::string model = "unknown";
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    model = line.substr(line.find(':') + 2);
    break;
  }
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return model + ", AVX-512";
  if (__builtin_cpu_supports("avx2")) return model + ", AVX2";
#endif
  return model;
}

}  // namespace lrq

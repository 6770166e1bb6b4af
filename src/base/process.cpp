#include "src/base/process.h"

#include <fstream>

#include <sys/resource.h>

namespace lrq {

std::uint64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U;
}

std::string cpu_vendor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("vendor_id")) return line.substr(line.find(':') + 2);
  }
  return "unknown vendor";
}

}  // namespace lrq

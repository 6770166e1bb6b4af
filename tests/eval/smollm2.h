#pragma once

#include <cstdlib>
#include <filesystem>

namespace lrq::eval {

/// The demo's model, 269 MB, which launch/setup fetches.
[[nodiscard]] inline std::filesystem::path smollm2() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path root =
      cache != nullptr ? std::filesystem::path(cache)
                       : std::filesystem::path(home != nullptr ? home : ".") / ".cache";
  return root / "lrq-dist/models/smollm2-135m";
}

}  // namespace lrq::eval

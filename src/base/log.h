#pragma once

#include <string>
#include <string_view>

#include "src/base/ids.h"
#include "src/base/text.h"

namespace lrq {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

/// Set up the log of this process, once, from `main`: events go to stderr, one a line:
///   I 14:03:22.118 rank=3 event=epoch block=17 nlc=0.0119 s=41.2
void start_log(Rank rank, LogLevel level);

/// The level that `text` ("debug" .. "off") names.  Throws UsageError otherwise.
[[nodiscard]] LogLevel parse_log_level(const std::string& text);

[[nodiscard]] bool log_enabled(LogLevel level);

/// Write one event line.  fields: "block=17 nlc=0.0119", made with concat().
/// Threads: any.
void log_event(LogLevel level, std::string_view event, std::string_view fields = {});

}  // namespace lrq

#include "src/base/log.h"

#include <array>
#include <utility>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "src/base/error.h"

namespace lrq {
namespace {

constexpr std::array kLevels = {
    std::pair{"debug", spdlog::level::debug}, std::pair{"info", spdlog::level::info},
    std::pair{"warning", spdlog::level::warn}, std::pair{"error", spdlog::level::err},
    std::pair{"off", spdlog::level::off}};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  return kLevels.at(static_cast<std::size_t>(level)).second;
}

}  // namespace

void start_log(Rank rank, LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>("lrq-dist",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern(concat("%L %H:%M:%S.%e rank=", rank, " %v"));
  logger->set_level(to_spdlog(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

LogLevel parse_log_level(const std::string& text) {
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    if (text == kLevels.at(i).first) return static_cast<LogLevel>(i);
  }
  throw UsageError({.what = concat("unknown log level '", text, "'"),
                    .where = "option --log-level",
                    .fix = "use debug, info, warning, error or off"});
}

bool log_enabled(LogLevel level) { return spdlog::should_log(to_spdlog(level)); }

void log_event(LogLevel level, std::string_view event, std::string_view fields) {
  if (fields.empty()) {
    spdlog::log(to_spdlog(level), "event={}", event);
  } else {
    spdlog::log(to_spdlog(level), "event={} {}", event, fields);
  }
}

}  // namespace lrq

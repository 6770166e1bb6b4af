#pragma once

#include <string>

#include "src/pipeline/targets.h"

namespace lrq::cli {

/// Bytes of "80GiB", "80GB", "512MiB" or "1000".  where: the option, for the message.
/// Throws UsageError.
[[nodiscard]] double bytes_of(const std::string& text, const std::string& where);

/// One of pipeline::targets_name(), which the option has checked.
[[nodiscard]] pipeline::Targets targets_of(const std::string& name);

}  // namespace lrq::cli

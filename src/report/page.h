#pragma once

#include <string>

#include "src/report/run_report.h"

namespace lrq::report {

/// The report as one HTML file that needs nothing beside it: no script, no network.  It is
/// well-formed XML too.
[[nodiscard]] std::string page_of(const RunReport& report);

/// The same figures for programs.
[[nodiscard]] std::string json_of(const RunReport& report);

}  // namespace lrq::report

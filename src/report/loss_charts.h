#pragma once

#include <string>

#include "src/report/run_report.h"

namespace lrq::report {

/// The losses of a run as <svg> elements: the local loss of every block in its first and last
/// epoch; of every epoch, a line a block; and the propagated NLC and MSE behind every block beside
/// those of the wave's start.
[[nodiscard]] std::string loss_charts(const RunReport& report);

}  // namespace lrq::report

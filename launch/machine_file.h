#pragma once

#include <string>

#include "src/pipeline/machine.h"

namespace lrq::cli {

/// A machine as the JSON that `lrq-dist plan --probe` writes, and every plan under "constants".
[[nodiscard]] std::string machine_to_json(const pipeline::Machine& machine);

/// The machine that --machine means: one of the table by name, or else a file.  Throws UsageError:
/// neither; DataError: no JSON, or a figure that is missing or not a number.
[[nodiscard]] pipeline::Machine find_machine(const std::string& name_or_file);

}  // namespace lrq::cli

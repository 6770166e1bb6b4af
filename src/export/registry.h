#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/export/job.h"

namespace lrq::exporter {

/// The formats, one function each.  Collective: every rank calls it with the same job.
/// Throws UsageError: what the run holds and the format cannot (the recipe field by name), a folder
/// that is in the way; DataError: a full disk, a broken block file, a value out of the dtype's
/// range.

/// A folder that Hugging Face transformers loads: de-quantized weights, smoothing folded in.
[[nodiscard]] Report export_hf(const Job& job);

/// One line of the registry.
struct Format {
  std::string_view name;
  Report (*write)(const Job& job);
};

/// Throws UsageError with the names that exist.
[[nodiscard]] const Format& find_format(std::string_view name);
[[nodiscard]] std::vector<std::string> format_names();

}  // namespace lrq::exporter

#pragma once

#include "dist/transport.h"
#include "src/pipeline/machine.h"

namespace lrq::pipeline {

/// Measure what one rank of this machine sustains while all ranks of the transport do the same, in
/// some 20 s: products, attention, quantizer and element-wise passes at the sizes of a block of 576
/// channels, files in the folder for temporary ones, messages where there are two ranks or more
/// (else those of the table's "cpu").  Each rate is a median, and of the ranks the slowest.
/// Returns the machine on rank 0.  Collective.  Throws DataError if the folder takes no files.
[[nodiscard]] Machine probe_machine(dist::Transport& transport);

}  // namespace lrq::pipeline

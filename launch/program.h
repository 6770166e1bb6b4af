#pragma once

namespace lrq::cli {

/// Read the command line and do what it asks for.  Returns the exit code of the process; throws
/// nothing.
int run_program(int argc, const char* const* argv);

}  // namespace lrq::cli

#pragma once

#include <string>
#include <string_view>

namespace lrq::dist {

/// MPI's own words for a code.
[[nodiscard]] std::string mpi_error_text(int code);

/// Check the result of the MPI function `call`.
/// Throws TransportError with MPI's own text unless code is MPI_SUCCESS.
void check_mpi(int code, std::string_view call, std::string_view where);

}  // namespace lrq::dist

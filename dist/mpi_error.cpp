#include "dist/mpi_error.h"

#include <array>
#include <mpi.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {

std::string mpi_error_text(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) return concat("code ", code);
  return {text.data(), static_cast<std::size_t>(length)};
}

void check_mpi(int code, std::string_view call, std::string_view where) {
  if (code == MPI_SUCCESS) return;
  throw TransportError({.what = concat(call, " returned an error: ", mpi_error_text(code)),
                        .where = std::string(where),
                        .fix = "read the log of the other ranks and of the network"});
}

}  // namespace lrq::dist

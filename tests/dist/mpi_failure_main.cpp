#include <csignal>
#include <iostream>
#include <string>

#include <ATen/ops/empty.h>

#include "dist/collectives.h"
#include "dist/mpi_transport.h"
#include "src/base/error.h"
#include "src/base/text.h"

/// A run in which rank 1 fails in the way that the argument names while the others wait for it.
/// Ends as the program's own main does: one message, then the job is aborted with the exit code.

namespace lrq::dist {
namespace {

void fail(Transport& t, const std::string& how) {
  barrier(t, "everyone is up");
  const at::Tensor tensor = at::empty({8}, at::kByte);
  if (how == "long" && t.rank().value == 0) {  // longer than any receive buffer of MPI's own
    t.send(at::empty({200'000}, at::kByte), Rank{1}, "too much")->wait();
  }
  if (t.rank().value != 1) {
    t.recv(tensor, Rank{1}, "what rank 1 owes")->wait();
    return;
  }
  if (how == "error") throw DataError({.what = "found 1, not 2", .where = "a file", .fix = "no"});
  if (how == "timeout") t.recv(tensor, Rank{0}, "what rank 0 owes")->wait();
  if (how == "long") t.recv(tensor, Rank{0}, "8 bytes from rank 0")->wait();
  if (how == "kill") (void)std::raise(SIGKILL);
  if (how == "unwind") throw std::string("not an error of ours: leaves main through the session");
}

int run(const std::string& how) {
  MpiSession session;
  const auto timeout = std::chrono::seconds(how == "timeout" && session.rank().value == 1 ? 1 : 60);
  const auto transport = make_mpi_transport(session, {.timeout = timeout});
  try {
    fail(*transport, how);
  } catch (const Error& error) {
    std::cerr << format_error(error.text(), concat("test: rank ", session.rank()));
    transport->abort(error.exit_code());
  }
  return 0;
}

}  // namespace
}  // namespace lrq::dist

int main(int argc, char** argv) {
  try {
    return lrq::dist::run(argc > 1 ? argv[1] : "error");
  } catch (const std::string& text) {
    std::cerr << text << "\n";
    return 9;
  }
}

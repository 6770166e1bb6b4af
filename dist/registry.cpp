#include "dist/registry.h"

#include <array>

#include "dist/mpi_transport.h"
#include "dist/self_transport.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

constexpr auto kOption = "option --transport";

bool has_ranks(const TransportOptions& options) {
  return options.session != nullptr && options.session->active();
}

std::unique_ptr<Transport> make_mpi(const TransportOptions& options) {
  if (!has_ranks(options)) {
    throw UsageError({.what = "transport mpi, but no MPI launcher started this process",
                      .where = kOption,
                      .fix = "start it with mpirun -n 2 lrq-dist ..., or leave --transport out"});
  }
  return make_mpi_transport(*options.session, {.timeout = options.timeout});
}

std::unique_ptr<Transport> make_nccl(const TransportOptions& /*options*/) {
  throw UsageError({.what = "transport nccl does not exist yet",
                    .where = kOption,
                    .fix = "--transport mpi, which carries tensors between host memories"});
}

struct Entry {
  const char* name;
  std::unique_ptr<Transport> (*make)(const TransportOptions& options);
};

constexpr std::array kTransports = {Entry{"mpi", make_mpi}, Entry{"nccl", make_nccl}};

}  // namespace

std::vector<std::string> transport_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kTransports) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Transport> make_transport(const TransportOptions& options) {
  if (options.name == "auto") {
    if (has_ranks(options)) return make_mpi(options);
    return std::make_unique<SelfTransport>();
  }
  for (const Entry& entry : kTransports) {
    if (options.name == entry.name) return entry.make(options);
  }
  throw UsageError({.what = concat("unknown transport '", options.name, "'"),
                    .where = kOption,
                    .fix = concat("use auto, ", join(transport_names(), ", "))});
}

}  // namespace lrq::dist

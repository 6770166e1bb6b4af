#include "dist/registry.h"

#include <array>
#include <cstdlib>

#include "dist/host_link.h"
#include "dist/mpi_transport.h"
#include "dist/nccl_transport.h"
#include "dist/self_transport.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

constexpr auto kTransportOption = "option --transport";

bool has_ranks(const TransportOptions& options) {
  return options.session != nullptr && options.session->active();
}

std::unique_ptr<Transport> make_mpi(const TransportOptions& options) {
  if (!has_ranks(options)) {
    throw UsageError({.what = "transport mpi, but no MPI launcher started this process",
                      .where = kTransportOption,
                      .fix = "start it with mpirun -n 2 lrq-dist ..., or leave --transport out"});
  }
  return make_mpi_transport(*options.session, {.timeout = options.timeout});
}

std::unique_ptr<Transport> make_nccl(const TransportOptions& options) {
  const Environment environment = [](const char* name) { return std::getenv(name); };
  const auto api = linked_nccl();
  const int gpu =
      choose_nccl_gpu({.api = api,
                       .launcher = has_ranks(options) ? find_launcher(environment) : std::nullopt,
                       .gpu = options.gpu});
  return make_nccl_transport(*api,
                             make_mpi_host_link(*options.session, {.timeout = options.timeout}),
                             {.timeout = options.timeout, .device = gpu});
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

int choose_nccl_gpu(const NcclSurroundings& surroundings) {
  const auto refuse = [](const char* what, const char* fix) {
    throw UsageError({.what = what, .where = kTransportOption, .fix = fix});
  };
  if (!surroundings.api) {
    refuse("transport nccl, but this lrq-dist is built without NCCL",
           "--transport mpi; or build where CMake finds the CUDA toolkit and NCCL (its line NCCL: "
           "says what is missing)");
  }
  if (!surroundings.launcher) {
    refuse("transport nccl, but no MPI launcher started this process",
           "start it with mpirun -n 2 lrq-dist ..., one rank a GPU; --transport mpi needs no GPU");
  }
  if (!surroundings.gpu) {
    refuse("transport nccl carries tensors between GPUs, and this run computes on the CPU",
           "--transport mpi, which carries tensors between host memories");
  }
  return *surroundings.gpu;
}

std::unique_ptr<Transport> make_transport(const TransportOptions& options) {
  if (options.name == "auto") {
    if (has_ranks(options)) return options.gpu ? make_nccl(options) : make_mpi(options);
    return std::make_unique<SelfTransport>();
  }
  for (const Entry& entry : kTransports) {
    if (options.name == entry.name) return entry.make(options);
  }
  throw UsageError({.what = concat("unknown transport '", options.name, "'"),
                    .where = kTransportOption,
                    .fix = concat("use auto, ", join(transport_names(), ", "))});
}

}  // namespace lrq::dist

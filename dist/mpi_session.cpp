#include "dist/mpi_session.h"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mpi.h>
#include <string_view>
#include <thread>

#include "dist/mpi_error.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

constexpr const char* kPmixLauncher = "a PMIx launcher";  // srun --mpi=pmix, prun
constexpr std::chrono::milliseconds kOthersLeaveInit{500};

std::optional<Launcher> own_launcher() {
  return find_launcher([](const char* name) { return std::getenv(name); });
}

void check_size(const Launcher& launcher, int size) {
  if (!launcher.ranks || *launcher.ranks == size) return;
  throw UsageError(
      {.what = concat(launcher.name, " started ", *launcher.ranks, " ranks, but MPI sees ", size),
       .where = "start of MPI",
       .fix = "use the mpirun of the MPI that lrq-dist was built with, or "
              "srun --mpi=pmix"});
}

}  // namespace

std::optional<int> whole_number(const char* variable) {
  if (variable == nullptr) return std::nullopt;
  const std::string_view digits(variable);
  int value = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value);
  if (error != std::errc() || end != digits.end() || value < 0) return std::nullopt;
  return value;
}

std::optional<Launcher> find_launcher(const Environment& environment) {
  if (const char* size = environment("OMPI_COMM_WORLD_SIZE")) {
    return Launcher{"mpirun", whole_number(size)};
  }
  if (environment("PMI_RANK") != nullptr && environment("PMI_SIZE") != nullptr) {
    return Launcher{"an MPICH launcher", whole_number(environment("PMI_SIZE"))};
  }
  const auto step_tasks = environment("SLURM_STEP_ID") != nullptr
                              ? whole_number(environment("SLURM_STEP_NUM_TASKS"))
                              : std::nullopt;
  if (environment("PMIX_RANK") != nullptr) return Launcher{kPmixLauncher, step_tasks};
  if (environment("SLURM_PROCID") != nullptr && step_tasks.value_or(1) > 1) {
    return Launcher{"srun", step_tasks};
  }
  return std::nullopt;
}

bool launched_by_mpi() { return own_launcher().has_value(); }

MpiSession::MpiSession() : exceptions_(std::uncaught_exceptions()) {
  const auto launcher = own_launcher();
  if (!launcher) return;
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread",
            "start of MPI");
  // Open MPI's own fault (open-mpi/ompi pull request 13559): started by srun, a rank that leaves
  // MPI_Init early may send to one that is still in it, which then crashes there.
  if (launcher->name == kPmixLauncher) std::this_thread::sleep_for(kOthersLeaveInit);
  active_ = true;
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
            "start of MPI");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_.value), "MPI_Comm_rank", "start of MPI");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size", "start of MPI");
  check_size(*launcher, size_);
  if (provided < MPI_THREAD_FUNNELED) {
    throw UsageError({.what = concat("this MPI allows no threads: level ", provided,
                                     ", needed at least ", MPI_THREAD_FUNNELED),
                      .where = "start of MPI",
                      .fix = "build against an MPI with MPI_THREAD_FUNNELED"});
  }
}

MpiSession::~MpiSession() {
  if (!active_ || std::uncaught_exceptions() > exceptions_) return;
  MPI_Finalize();
}

void MpiSession::abort(int exit_code) noexcept {
  if (!active_) return;
  active_ = false;
  MPI_Abort(MPI_COMM_WORLD, exit_code);
}

}  // namespace lrq::dist

#pragma once

#include <functional>
#include <optional>
#include <string>

#include "src/base/ids.h"

namespace lrq::dist {

/// What started this process as one of several ranks, from the environment that it set.
struct Launcher {
  std::string name;               ///< "mpirun", "srun", "an MPICH launcher", "a PMIx launcher"
  std::optional<int> ranks = {};  ///< how many it started, where it says so
};

/// Looks up an environment variable; nullptr where it is not set.
using Environment = std::function<const char*(const char* name)>;

/// The number, not negative, that a variable holds; nothing where it is unset or holds more than
/// that.
[[nodiscard]] std::optional<int> whole_number(const char* variable);

/// The launcher that the environment speaks of; empty for a plain start.
/// A Slurm batch shell is a plain start: it has SLURM_PROCID too, but is no step of srun.
[[nodiscard]] std::optional<Launcher> find_launcher(const Environment& environment);

/// Whether a launcher started this process as a rank.
[[nodiscard]] bool launched_by_mpi();

/// MPI from start to end of the process, made once in `main`.  Without a launcher MPI is never
/// initialised and the session is rank 0 of 1.  MPI calls come from the thread that made it.
/// While an exception unwinds, MPI_Finalize is left out, as it would wait for the other ranks.
class MpiSession {
 public:
  /// Throws TransportError if MPI does not start; UsageError if the launcher started several
  /// ranks and MPI sees one (a launcher of another MPI).
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  [[nodiscard]] bool active() const noexcept { return active_; }
  [[nodiscard]] Rank rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  /// End every rank's process with exit_code.  Returns only where MPI is not active.
  void abort(int exit_code) noexcept;

 private:
  bool active_ = false;
  Rank rank_ = {};
  int size_ = 1;
  int exceptions_ = 0;  // in flight when the session was made
};

}  // namespace lrq::dist

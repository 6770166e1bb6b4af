#pragma once

#include <optional>

#include "dist/mpi_session.h"

namespace lrq::dist {

/// The place of this process among the ranks of its machine, as the launcher tells it.
struct LocalRank {
  int rank = 0;
  std::optional<int> ranks = {};  ///< on this machine, where the launcher says so
};

/// From the variables of Open MPI, MPICH and Intel MPI, MVAPICH, or of srun; empty if none is set.
[[nodiscard]] std::optional<LocalRank> find_local_rank(const Environment& environment);

/// Choose the GPU of this process among the `gpus` that CUDA sees: the local rank, which CUDA
/// counts within CUDA_VISIBLE_DEVICES; 0 where srun gives each task GPUs of its own
/// (--gpus-per-task). Throws UsageError if CUDA sees none, fewer than there are ranks on this
/// machine (with both numbers), or several and the launcher does not tell the local rank.
[[nodiscard]] int choose_gpu(const Environment& environment, int gpus);

}  // namespace lrq::dist

#include "dist/local_rank.h"

#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

struct Variables {
  const char* rank;
  const char* ranks;
};

constexpr Variables kSlurm = {"SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"};

// srun last: mpirun inside of a Slurm job starts the ranks itself, and Slurm's variables are those
// of the one task that started them.
constexpr std::array kLaunchers = {
    Variables{"OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    Variables{"MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    Variables{"MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"}, kSlurm};

bool srun_gives_each_task_its_own(const Environment& environment) {
  const bool by_other_launcher =
      std::any_of(kLaunchers.begin(), kLaunchers.end() - 1,
                  [&](const Variables& launcher) { return environment(launcher.rank) != nullptr; });
  return !by_other_launcher && environment(kSlurm.rank) != nullptr &&
         environment("SLURM_GPUS_PER_TASK") != nullptr;
}

[[noreturn]] void refuse(std::string what, std::string fix) {
  throw UsageError({.what = std::move(what),
                    .where = "option --device, choice of the GPU by local rank",
                    .fix = std::move(fix)});
}

}  // namespace

std::optional<LocalRank> find_local_rank(const Environment& environment) {
  for (const Variables& launcher : kLaunchers) {
    if (const auto rank = whole_number(environment(launcher.rank))) {
      return LocalRank{.rank = *rank, .ranks = whole_number(environment(launcher.ranks))};
    }
  }
  return std::nullopt;
}

int choose_gpu(const Environment& environment, int gpus) {
  if (gpus <= 0) {
    const char* visible = environment("CUDA_VISIBLE_DEVICES");
    refuse(concat("device cuda is asked for and there is no CUDA device",
                  visible == nullptr ? "" : concat(" (CUDA_VISIBLE_DEVICES is '", visible, "')")),
           "look at nvidia-smi, or use --device cpu");
  }
  if (srun_gives_each_task_its_own(environment)) return 0;
  const auto local = find_local_rank(environment);
  if (!local && gpus == 1) return 0;
  if (!local) {
    refuse(concat("CUDA sees ", gpus, " GPUs, and the launcher does not tell the local rank"),
           "set MPI_LOCALRANKID for each rank, or use Open MPI's mpirun, srun or --device cpu");
  }
  const int ranks = std::max(local->ranks.value_or(0), local->rank + 1);
  if (ranks > gpus) {
    refuse(concat(ranks, local->ranks ? "" : " or more", " ranks on this machine, and CUDA sees ",
                  gpus, gpus == 1 ? " GPU" : " GPUs"),
           concat("start at most ", gpus, " a machine (mpirun --map-by ppr:", gpus,
                  ":node ...), name more GPUs in CUDA_VISIBLE_DEVICES, or use --device cpu"));
  }
  return local->rank;
}

}  // namespace lrq::dist

#include "dist/local_rank.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::dist {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment(const Variables& variables) {
  return [variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

TEST(LocalRankTest, ComesFromWhicheverLauncherTellsIt) {
  EXPECT_FALSE(find_local_rank(environment({})));
  EXPECT_FALSE(find_local_rank(environment({{"MPI_LOCALRANKID", "first"}})));
  const auto mpirun = find_local_rank(
      environment({{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}}));
  ASSERT_TRUE(mpirun);
  EXPECT_EQ(mpirun->rank, 3);
  EXPECT_EQ(mpirun->ranks, 4);
  EXPECT_EQ(find_local_rank(environment({{"MPI_LOCALRANKID", "1"}}))->rank, 1);
  EXPECT_EQ(find_local_rank(environment({{"SLURM_LOCALID", "2"}}))->ranks, std::nullopt);
}

TEST(LocalRankTest, MpirunInsideOfASlurmJobKnowsBetterThanSlurm) {
  const auto found =
      find_local_rank(environment({{"SLURM_LOCALID", "0"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "5"}}));
  EXPECT_EQ(found->rank, 5);
}

ErrorText refusal(const Variables& variables, int gpus) {
  try {
    (void)choose_gpu(environment(variables), gpus);
  } catch (const UsageError& error) {
    return error.text();
  }
  ADD_FAILURE() << "a GPU was chosen";
  return {};
}

TEST(ChooseGpuTest, TakesTheLocalRank) {
  EXPECT_EQ(choose_gpu(environment({{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}}), 4), 3);
  EXPECT_EQ(choose_gpu(environment({}), 1), 0);
}

TEST(ChooseGpuTest, TakesTheOnlyOneThatSrunGivesToEachTask) {
  const Variables task = {{"SLURM_LOCALID", "3"}, {"SLURM_GPUS_PER_TASK", "1"}};
  EXPECT_EQ(choose_gpu(environment(task), 1), 0);
  Variables below_mpirun = task;
  below_mpirun["OMPI_COMM_WORLD_LOCAL_RANK"] = "2";
  EXPECT_EQ(choose_gpu(environment(below_mpirun), 4), 2);
}

TEST(ChooseGpuTest, FewerGpusThanRanksAreRefusedWithBothNumbersOnEveryRank) {
  for (const char* rank : {"0", "3"}) {
    const ErrorText text =
        refusal({{"OMPI_COMM_WORLD_LOCAL_RANK", rank}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}}, 2);
    EXPECT_EQ(text.what, "4 ranks on this machine, and CUDA sees 2 GPUs");
    EXPECT_NE(text.fix.find("ppr:2:node"), std::string::npos);
    EXPECT_NE(text.fix.find("CUDA_VISIBLE_DEVICES"), std::string::npos);
  }
  EXPECT_EQ(refusal({{"SLURM_LOCALID", "1"}}, 1).what,
            "2 or more ranks on this machine, and CUDA sees 1 GPU");
}

TEST(ChooseGpuTest, NoGpuIsRefusedWithWhatIsVisible) {
  EXPECT_EQ(refusal({}, 0).what, "device cuda is asked for and there is no CUDA device");
  EXPECT_EQ(refusal({{"CUDA_VISIBLE_DEVICES", ""}}, 0).what,
            "device cuda is asked for and there is no CUDA device (CUDA_VISIBLE_DEVICES is '')");
}

TEST(ChooseGpuTest, SeveralGpusAndNoLocalRankAreRefused) {
  EXPECT_EQ(refusal({}, 4).what, "CUDA sees 4 GPUs, and the launcher does not tell the local rank");
}

}  // namespace
}  // namespace lrq::dist

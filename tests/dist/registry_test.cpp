#include "dist/registry.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "dist/mpi_session.h"
#include "dist/nccl_api.h"
#include "src/base/error.h"

namespace lrq::dist {
namespace {

TEST(RegistryTest, EveryTransportFileHasALine) {
  const std::string ending = "_transport.cpp";
  std::vector<std::string> known = transport_names();
  known.insert(known.end(), {"self", "thread"});  // chosen by "auto"; for tests
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LRQ_DIST_DIR)) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(ending)) continue;
    ++files;
    const std::string name = file.substr(0, file.size() - ending.size());
    EXPECT_NE(std::find(known.begin(), known.end(), name), known.end()) << file;
  }
  EXPECT_GE(files, 3);
}

ErrorText usage_error(const std::string& name) {
  try {
    (void)make_transport({.name = name});
  } catch (const UsageError& error) {
    return error.text();
  }
  ADD_FAILURE() << "transport '" << name << "' was accepted";
  return {};
}

TEST(RegistryTest, AutoWithoutALauncherIsARunOfOneRank) {
  MpiSession session;
  ASSERT_FALSE(session.active()) << "run this test without mpirun";
  const auto transport = make_transport({.name = "auto", .session = &session});
  EXPECT_EQ(transport->name(), "self");
  EXPECT_EQ(transport->size(), 1);
}

TEST(RegistryTest, NcclWithoutALauncherIsRefusedByName) {
  const ErrorText text = usage_error("nccl");
#ifdef LRQ_TEST_NCCL_LINKED
  EXPECT_EQ(text.what, "transport nccl, but no MPI launcher started this process");
#else
  EXPECT_EQ(text.what, "transport nccl, but this lrq-dist is built without NCCL");
#endif
  EXPECT_EQ(text.where, "option --transport");
  EXPECT_NE(text.fix.find("--transport mpi"), std::string::npos);
}

TEST(RegistryTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  EXPECT_EQ(usage_error("tcp").what, "unknown transport 'tcp'");
  EXPECT_EQ(usage_error("tcp").fix, "use auto, mpi, nccl");
}

TEST(RegistryTest, MpiNeedsALauncher) {
  EXPECT_NE(usage_error("mpi").fix.find("mpirun -n 2"), std::string::npos);
}

std::optional<Launcher> launcher_of(const std::map<std::string, std::string>& variables) {
  return find_launcher([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(LauncherTest, IsFoundByTheVariablesThatItSets) {
  EXPECT_FALSE(launcher_of({}));
  const auto mpirun = launcher_of({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "1"}});
  ASSERT_TRUE(mpirun);
  EXPECT_EQ(mpirun->name, "mpirun");
  EXPECT_EQ(mpirun->ranks, 4);
  EXPECT_EQ(launcher_of({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}})->ranks, 2);
  EXPECT_EQ(launcher_of({{"PMIX_RANK", "0"}})->ranks, std::nullopt);
}

TEST(LauncherTest, ABatchShellOfSlurmIsNoneAndAStepIsOne) {
  EXPECT_FALSE(launcher_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}}));
  EXPECT_FALSE(
      launcher_of({{"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
  const auto srun =
      launcher_of({{"SLURM_PROCID", "1"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  ASSERT_TRUE(srun);
  EXPECT_EQ(srun->name, "srun");
  EXPECT_EQ(srun->ranks, 2);
}

NcclApi stand_in() {
  return {.get_version =
              [](int* version) {
                *version = 22705;
                return 0;
              },
          .get_device_count =
              [](int* count) {
                *count = 3;
                return 0;
              }};
}

std::string refusal(const NcclSurroundings& surroundings) {
  try {
    (void)choose_nccl_gpu(surroundings);
  } catch (const UsageError& error) {
    EXPECT_NE(error.text().fix.find("--transport mpi"), std::string::npos) << error.text().what;
    return error.text().what;
  }
  return {};
}

TEST(RegistryTest, NcclIsRefusedForTheFirstThingThatIsMissing) {
  NcclSurroundings around;
  EXPECT_EQ(refusal(around), "transport nccl, but this lrq-dist is built without NCCL");
  around.api = stand_in();
  EXPECT_EQ(refusal(around), "transport nccl, but no MPI launcher started this process");
  around.launcher = Launcher{"mpirun", 4};
  EXPECT_EQ(refusal(around),
            "transport nccl carries tensors between GPUs, and this run computes on the CPU");
  around.gpu = 2;
  EXPECT_EQ(refusal(around), "");
  EXPECT_EQ(choose_nccl_gpu(around), 2);
}

TEST(NcclApiTest, VersionAndDevicesComeFromTheTable) {
  NcclApi api = stand_in();
  EXPECT_EQ(nccl_version(api), "2.27.5");
  EXPECT_EQ(cuda_device_count(api), 3);
  api.get_version = [](int* version) {
    *version = 2708;  // the numbering before 2.9
    return 0;
  };
  EXPECT_EQ(nccl_version(api), "2.7.8");
}

TEST(NcclApiTest, AnErrorMeansNoVersionAndNoDevice) {
  NcclApi api = stand_in();
  api.get_version = [](int* /*version*/) { return 1; };
  api.get_device_count = [](int* count) {
    *count = 7;
    return 35;  // cudaErrorInsufficientDriver
  };
  EXPECT_EQ(nccl_version(api), std::nullopt);
  EXPECT_EQ(cuda_device_count(api), 0);
  EXPECT_EQ(nccl_version(std::nullopt), std::nullopt);
  EXPECT_EQ(cuda_device_count(std::nullopt), 0);
}

TEST(NcclApiTest, TheLinkedLibraryTellsItsVersionOrIsAbsent) {
#ifdef LRQ_TEST_NCCL_LINKED
  ASSERT_TRUE(nccl_version());
  EXPECT_EQ(nccl_version()->rfind("2.", 0), 0U) << *nccl_version();
#else
  EXPECT_FALSE(nccl_version());
#endif
  EXPECT_GE(cuda_device_count(), 0);
}

}  // namespace
}  // namespace lrq::dist

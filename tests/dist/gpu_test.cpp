#include "dist/gpu.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::dist {
namespace {

/// A machine of three GPUs, the second of which has fallen off the bus.
NcclApi three_gpus() {
  NcclApi api;
  api.get_device_count = [](int* count) {
    *count = 3;
    return 0;
  };
  api.set_device = [](int device) { return device == 1 ? 46 : 0; };
  api.cuda_error_text = [](int /*code*/) { return "CUDA-capable device(s) is/are busy"; };
  api.load_torch_cuda = []() -> const char* { return nullptr; };
  api.limit_memory = [](int device, std::size_t bytes) {
    return device == 0 && bytes == 5'000'000'000 ? 0 : 46;
  };
  api.peak_memory = [](int device, std::size_t* bytes) {
    *bytes = 4'000'000'000;
    return device == 1 ? 46 : 0;
  };
  api.get_device_name = [](int device, GpuName* name) {
    const std::string_view text = "a GPU";
    std::copy(text.begin(), text.end(), name->begin());
    return device == 1 ? 46 : 0;
  };
  return api;
}

const char* second_rank(const char* name) {
  return std::string_view(name) == "OMPI_COMM_WORLD_LOCAL_RANK" ? "1" : nullptr;
}
const char* nothing(const char* /*name*/) { return nullptr; }

template <typename Work>
ErrorText refusal(Work work) {
  try {
    work();
  } catch (const UsageError& error) {
    EXPECT_NE(error.text().fix.find("--device cpu"), std::string::npos) << error.text().what;
    return error.text();
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

TEST(ChooseDeviceTest, TakesTheGpuOfTheLocalRankWhereThereAreGpus) {
  for (const char* asked : {"auto", "cuda"}) {
    EXPECT_EQ(choose_device(asked, three_gpus(), second_rank), 1);
  }
  EXPECT_EQ(choose_device("cpu", three_gpus(), second_rank), std::nullopt);
}

TEST(ChooseDeviceTest, AutoIsTheCpuWithoutCudaOrWithoutAGpu) {
  EXPECT_EQ(choose_device("auto", std::nullopt, nothing), std::nullopt);
  NcclApi none = three_gpus();
  none.get_device_count = [](int* /*count*/) { return 100; };  // cudaErrorNoDevice
  EXPECT_EQ(choose_device("auto", none, nothing), std::nullopt);
}

TEST(ChooseDeviceTest, CudaWithoutADeviceIsRefused) {
  const std::string none = "device cuda is asked for and there is no CUDA device";
  EXPECT_EQ(refusal([&] { (void)choose_device("cuda", std::nullopt, nothing); }).what,
            none + ": this lrq-dist is built without CUDA");
  NcclApi empty = three_gpus();
  empty.get_device_count = [](int* /*count*/) { return 100; };
  EXPECT_EQ(refusal([&] { (void)choose_device("cuda", empty, nothing); }).what, none);
}

TEST(ChooseDeviceTest, MoreRanksThanGpusAreRefusedForAutoToo) {
  const auto eighth = [](const char* name) {
    return std::string_view(name) == "OMPI_COMM_WORLD_LOCAL_RANK" ? "7" : nullptr;
  };
  EXPECT_EQ(refusal([&] { (void)choose_device("auto", three_gpus(), eighth); }).what,
            "8 or more ranks on this machine, and CUDA sees 3 GPUs");
}

TEST(UseGpuTest, TellsWhatTheLoaderOrCudaSays) {
  NcclApi api = three_gpus();
  use_gpu(api, 0);
  EXPECT_EQ(gpu_name(api, 0), "a GPU");
  const std::string busy = " returned 46: CUDA-capable device(s) is/are busy";
  EXPECT_EQ(refusal([&] { use_gpu(api, 1); }).what, "CUDA: cudaSetDevice" + busy);
  EXPECT_EQ(refusal([&] { (void)gpu_name(api, 1); }).what, "CUDA: cudaGetDeviceProperties" + busy);
  EXPECT_EQ(refusal([&] { (void)peak_gpu_memory(api, 1); }).what,
            "CUDA: the count of LibTorch's memory" + busy);
  EXPECT_EQ(peak_gpu_memory(api, 0), 4'000'000'000U);
  use_gpu(api, 0, 5'000'000'000);
  EXPECT_EQ(refusal([&] { use_gpu(api, 0, 6'000'000'000); }).what,
            "CUDA: the limit of LibTorch's memory" + busy);
  api.load_torch_cuda = [] { return "libcublas.so.13: cannot open shared object file"; };
  EXPECT_EQ(refusal([&] { use_gpu(api, 0); }).what,
            "LibTorch's part for GPUs cannot be loaded: libcublas.so.13: cannot open shared object "
            "file");
}

#ifdef LRQ_TEST_NCCL_LINKED
// Without it every tensor on a GPU would end in "Could not run 'aten::empty.memory_format' with
// arguments from the 'CUDA' backend"; where there is no GPU, CUDA is then the one to say so.
TEST(UseGpuTest, LibTorchKnowsTheCudaBackendOnceItsPartIsLoaded) {
  const auto api = linked_nccl();
  ASSERT_TRUE(api.has_value());
  const char* reason = api->load_torch_cuda();
  ASSERT_EQ(reason, nullptr) << reason;
  std::string what;
  try {
    (void)at::empty({1}, at::device(at::Device(at::kCUDA, 0)));
  } catch (const c10::Error& error) {
    what = error.what_without_backtrace();
  }
  EXPECT_EQ(what.find("Could not run"), std::string::npos) << what;
}
#endif

}  // namespace
}  // namespace lrq::dist

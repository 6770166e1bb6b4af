#include "dist/gpu.h"

#include <array>

#include "dist/local_rank.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

constexpr auto kDeviceOption = "option --device";

void check(const NcclApi& api, int code, std::string_view call, int gpu) {
  if (code == 0) return;
  throw UsageError(
      {.what = concat("CUDA: ", call, " returned ", code, ": ", api.cuda_error_text(code)),
       .where = concat("GPU ", gpu, ", ", kDeviceOption),
       .fix = "look at nvidia-smi and the kernel's log for the GPU, or use --device cpu"});
}

}  // namespace

std::optional<int> choose_device(std::string_view asked, const std::optional<NcclApi>& api,
                                 const Environment& environment) {
  if (asked == "cpu") return std::nullopt;
  if (asked == "cuda" && !api) {
    throw UsageError(
        {.what = "device cuda is asked for and there is no CUDA device: this lrq-dist is built "
                 "without CUDA",
         .where = kDeviceOption,
         .fix = "use --device cpu; or build where CMake finds the CUDA toolkit and NCCL (its line "
                "NCCL: says what is missing)"});
  }
  const int gpus = cuda_device_count(api);
  if (asked == "auto" && gpus == 0) return std::nullopt;
  return choose_gpu(environment, gpus);
}

void use_gpu(const NcclApi& api, int gpu, std::size_t most) {
  if (const char* reason = api.load_torch_cuda(); reason != nullptr) {
    throw UsageError({.what = concat("LibTorch's part for GPUs cannot be loaded: ", reason),
                      .where = kDeviceOption,
                      .fix = "install a PyTorch with CUDA and build again (launch/setup), or use "
                             "--device cpu"});
  }
  check(api, api.set_device(gpu), "cudaSetDevice", gpu);
  if (most > 0) check(api, api.limit_memory(gpu, most), "the limit of LibTorch's memory", gpu);
}

std::size_t peak_gpu_memory(const NcclApi& api, int gpu) {
  std::size_t bytes = 0;
  check(api, api.peak_memory(gpu, &bytes), "the count of LibTorch's memory", gpu);
  return bytes;
}

std::string gpu_name(const NcclApi& api, int gpu) {
  GpuName name = {};
  check(api, api.get_device_name(gpu, &name), "cudaGetDeviceProperties", gpu);
  return name.data();
}

}  // namespace lrq::dist

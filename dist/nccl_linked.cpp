#include <cuda_runtime_api.h>
#include <nccl.h>

#include "dist/nccl_api.h"

namespace lrq::dist {

std::optional<NcclApi> linked_nccl() {
  return NcclApi{
      .get_version = [](int* version) { return static_cast<int>(ncclGetVersion(version)); },
      .get_device_count =
          [](int* count) {
            const cudaError_t code = cudaGetDeviceCount(count);
            // CUDA remembers the last error; the next caller's check must not meet this one.
            if (code != cudaSuccess) (void)cudaGetLastError();
            return static_cast<int>(code);
          }};
}

}  // namespace lrq::dist

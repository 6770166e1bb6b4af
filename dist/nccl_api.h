#pragma once

#include <optional>
#include <string>

namespace lrq::dist {

/// The NCCL and CUDA calls that lrq-dist makes, as a table: those of the linked libraries, or of a
/// stand-in in a test.  Each returns the library's own code, 0 for success.
struct NcclApi {
  int (*get_version)(int* version) = nullptr;     ///< ncclGetVersion
  int (*get_device_count)(int* count) = nullptr;  ///< cudaGetDeviceCount
};

/// The libraries that this program is linked with; empty in a build without CUDA or NCCL
/// (nccl_linked.cpp or nccl_absent.cpp, chosen by dist/CMakeLists.txt).
[[nodiscard]] std::optional<NcclApi> linked_nccl();

/// "2.27.5"; empty without NCCL or where it does not tell.
[[nodiscard]] std::optional<std::string> nccl_version(const std::optional<NcclApi>& api);
[[nodiscard]] std::optional<std::string> nccl_version();

/// GPUs that CUDA sees; 0 without CUDA, without a driver and without a GPU, never an error.
[[nodiscard]] int cuda_device_count(const std::optional<NcclApi>& api);
[[nodiscard]] int cuda_device_count();

}  // namespace lrq::dist

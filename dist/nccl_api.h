#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace lrq::dist {

/// What joins the two ends of a communicator (ncclUniqueId).
using NcclId = std::array<char, 128>;
/// What CUDA calls a GPU, ended by a zero.
using GpuName = std::array<char, 256>;

/// Codes that the transport must tell apart; every other one but 0 is an error.
inline constexpr int kNcclInProgress = 7;  ///< ncclInProgress
inline constexpr int kCudaNotReady = 600;  ///< cudaErrorNotReady

/// The NCCL and CUDA calls that lrq-dist makes, as a table: those of the linked libraries, or of a
/// stand-in in a test.  Each returns the library's own code, 0 for success.  Communicators, streams
/// and events are the libraries' own pointers, which nobody outside of the table looks into.
/// The linked table (nccl_linked.cpp) is compiled and linked, and has run on no GPU.
/// Threads: communicators and events from the one compute thread of the rank.
struct NcclApi {
  int (*get_version)(int* version) = nullptr;       ///< ncclGetVersion
  const char* (*error_text)(int code) = nullptr;    ///< ncclGetErrorString
  const char* (*last_error)(void* comm) = nullptr;  ///< ncclGetLastError
  int (*get_id)(NcclId* id) = nullptr;              ///< ncclGetUniqueId
  /// ncclCommInitRankConfig with blocking = 0: kNcclInProgress, then comm_state tells.
  int (*comm_init)(void** comm, int size, const NcclId* id, int rank) = nullptr;
  int (*comm_state)(void* comm, int* state) = nullptr;  ///< ncclCommGetAsyncError
  int (*comm_finalize)(void* comm) = nullptr;           ///< ncclCommFinalize
  int (*comm_destroy)(void* comm) = nullptr;            ///< ncclCommDestroy
  int (*comm_abort)(void* comm) = nullptr;              ///< ncclCommAbort
  int (*group_start)() = nullptr;                       ///< ncclGroupStart
  int (*group_end)() = nullptr;                         ///< ncclGroupEnd
  /// ncclSend and ncclRecv of bytes (ncclUint8).
  int (*send)(const void* data, std::size_t bytes, int peer, void* comm, void* stream) = nullptr;
  int (*recv)(void* data, std::size_t bytes, int peer, void* comm, void* stream) = nullptr;

  int (*get_device_count)(int* count) = nullptr;                  ///< cudaGetDeviceCount
  int (*set_device)(int device) = nullptr;                        ///< cudaSetDevice
  const char* (*cuda_error_text)(int code) = nullptr;             ///< cudaGetErrorString
  int (*event_create)(void** event) = nullptr;                    ///< cudaEventCreate, no timing
  int (*event_destroy)(void* event) = nullptr;                    ///< cudaEventDestroy
  int (*event_record)(void* event, void* stream) = nullptr;       ///< cudaEventRecord
  int (*event_query)(void* event) = nullptr;                      ///< cudaEventQuery
  int (*stream_wait_event)(void* stream, void* event) = nullptr;  ///< cudaStreamWaitEvent

  /// LibTorch's current stream on this thread's device: the one that computes.
  int (*compute_stream)(void** stream) = nullptr;
  /// cudaStreamCreateWithPriority, never destroyed: the caching allocator records events on it when
  /// it frees memory.  (LibTorch's pool has 32, and channels that shared one would wait for each
  /// other.)
  int (*new_stream)(void** stream) = nullptr;
  /// Tell the caching allocator that the tensor is used on the stream: memory that is given back
  /// early is handed out again only behind what the stream has been given until then.
  int (*record_stream)(const at::Tensor& tensor, void* stream) = nullptr;
  /// Bound what the caching allocator takes of the device.  NCCL's own buffers are not in it.
  int (*limit_memory)(int device, std::size_t bytes) = nullptr;
  /// The most that it has taken so far.
  int (*peak_memory)(int device, std::size_t* bytes) = nullptr;

  /// Load the part of LibTorch that computes on GPUs.  nullptr, or why it cannot be loaded.
  const char* (*load_torch_cuda)() = nullptr;
  int (*get_device_name)(int device, GpuName* name) = nullptr;  ///< of cudaGetDeviceProperties
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

/// Check the code of a CUDA or NCCL call.  kNcclInProgress passes check_nccl.
/// comm: whose last error is appended; nullptr for none.
/// Throws TransportError with the library's own text (NCCL's with its version) unless it is 0.
void check_cuda(const NcclApi& api, int code, std::string_view call, std::string_view where);
void check_nccl(const NcclApi& api, int code, std::string_view call, void* comm,
                std::string_view where);

}  // namespace lrq::dist

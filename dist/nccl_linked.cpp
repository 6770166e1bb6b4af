#include <algorithm>
#include <cstring>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <iterator>
#include <nccl.h>

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "dist/nccl_api.h"

namespace lrq::dist {
namespace {

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));
static_assert(kNcclInProgress == ncclInProgress);
static_assert(kCudaNotReady == cudaErrorNotReady);

/// CUDA remembers the last error; the next caller's check must not meet this one.
int forget(cudaError_t code) {
  if (code != cudaSuccess) (void)cudaGetLastError();
  return static_cast<int>(code);
}

ncclComm_t as_comm(void* comm) { return static_cast<ncclComm_t>(comm); }
cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }
cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

/// Run what LibTorch says by an exception, as a code.
template <typename Call>
int as_code(Call call) {
  try {
    call();
    return 0;
  } catch (const c10::Error&) {
    return forget(cudaErrorUnknown);
  }
}

int comm_init(void** comm, int size, const NcclId* id, int rank) {
  ncclUniqueId unique = {};
  std::memcpy(&unique, id->data(), sizeof(unique));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t made = nullptr;
  const ncclResult_t code = ncclCommInitRankConfig(&made, size, unique, rank, &config);
  *comm = made;
  return code;
}

void add_nccl(NcclApi& api) {
  api.get_version = [](int* version) -> int { return ncclGetVersion(version); };
  api.error_text = [](int code) { return ncclGetErrorString(static_cast<ncclResult_t>(code)); };
  api.last_error = [](void* comm) { return ncclGetLastError(as_comm(comm)); };
  api.get_id = [](NcclId* id) -> int {
    ncclUniqueId unique = {};
    const ncclResult_t code = ncclGetUniqueId(&unique);
    std::memcpy(id->data(), &unique, sizeof(unique));
    return code;
  };
  api.comm_init = comm_init;
  api.comm_state = [](void* comm, int* state) -> int {
    ncclResult_t found = ncclSuccess;
    const ncclResult_t code = ncclCommGetAsyncError(as_comm(comm), &found);
    *state = found;
    return code;
  };
  api.comm_finalize = [](void* comm) -> int { return ncclCommFinalize(as_comm(comm)); };
  api.comm_destroy = [](void* comm) -> int { return ncclCommDestroy(as_comm(comm)); };
  api.comm_abort = [](void* comm) -> int { return ncclCommAbort(as_comm(comm)); };
  api.group_start = []() -> int { return ncclGroupStart(); };
  api.group_end = []() -> int { return ncclGroupEnd(); };
  api.send = [](const void* data, std::size_t bytes, int peer, void* comm, void* stream) -> int {
    return ncclSend(data, bytes, ncclUint8, peer, as_comm(comm), as_stream(stream));
  };
  api.recv = [](void* data, std::size_t bytes, int peer, void* comm, void* stream) -> int {
    return ncclRecv(data, bytes, ncclUint8, peer, as_comm(comm), as_stream(stream));
  };
}

void add_cuda(NcclApi& api) {
  api.get_device_count = [](int* count) { return forget(cudaGetDeviceCount(count)); };
  api.set_device = [](int device) { return forget(cudaSetDevice(device)); };
  api.get_device_name = [](int device, GpuName* name) {
    cudaDeviceProp properties = {};
    const int code = forget(cudaGetDeviceProperties(&properties, device));
    std::copy_n(std::begin(properties.name), name->size() - 1, name->begin());
    return code;
  };
  api.cuda_error_text = [](int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); };
  api.new_stream = [](void** stream) {
    // The greatest priority: a message that waits for compute kernels to end would hold up the next
    // rank.
    int least = 0;
    int greatest = 0;
    int code = forget(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    if (code != 0) return code;
    cudaStream_t made = nullptr;
    code = forget(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, greatest));
    *stream = made;
    return code;
  };
  api.event_create = [](void** event) {
    cudaEvent_t made = nullptr;
    const int code = forget(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    *event = made;
    return code;
  };
  api.event_destroy = [](void* event) { return forget(cudaEventDestroy(as_event(event))); };
  api.event_record = [](void* event, void* stream) {
    return forget(cudaEventRecord(as_event(event), as_stream(stream)));
  };
  api.event_query = [](void* event) { return forget(cudaEventQuery(as_event(event))); };
  api.stream_wait_event = [](void* stream, void* event) {
    return forget(cudaStreamWaitEvent(as_stream(stream), as_event(event), 0));
  };
}

void add_torch(NcclApi& api) {
  // Found by the program's own run path, as the libraries are that it is linked with.  Nothing here
  // names a symbol of it: being loaded is what registers it with LibTorch.
  api.load_torch_cuda = []() -> const char* {
    return dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr ? dlerror() : nullptr;
  };
  api.compute_stream = [](void** stream) {
    return as_code([&] { *stream = c10::cuda::getCurrentCUDAStream().stream(); });
  };
  api.record_stream = [](const at::Tensor& tensor, void* stream) {
    return as_code([&] {
      const auto external =
          c10::cuda::getStreamFromExternal(as_stream(stream), tensor.device().index());
      c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(), external);
    });
  };
  api.limit_memory = [](int device, std::size_t bytes) {
    cudaDeviceProp properties = {};
    const int code = forget(cudaGetDeviceProperties(&properties, device));
    if (code != 0) return code;
    const double whole = static_cast<double>(properties.totalGlobalMem);
    return as_code([&] {
      auto* allocator = c10::cuda::CUDACachingAllocator::get();
      if (!allocator->initialized()) allocator->init(c10::cuda::device_count());
      allocator->setMemoryFraction(std::min(static_cast<double>(bytes) / whole, 1.0),
                                   static_cast<c10::DeviceIndex>(device));
    });
  };
  api.peak_memory = [](int device, std::size_t* bytes) {
    return as_code([&] {
      auto* allocator = c10::cuda::CUDACachingAllocator::get();
      if (!allocator->initialized()) return;  // nothing so far
      const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(device));
      *bytes = static_cast<std::size_t>(stats.reserved_bytes[0].peak);  // 0: of all pools
    });
  };
}

}  // namespace

std::optional<NcclApi> linked_nccl() {
  NcclApi api;
  add_nccl(api);
  add_cuda(api);
  add_torch(api);
  return api;
}

}  // namespace lrq::dist

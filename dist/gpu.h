#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "dist/mpi_session.h"
#include "dist/nccl_api.h"

namespace lrq::dist {

/// Choose where this rank computes, by what --device says: "cpu", "cuda", or "auto", which means a
/// GPU where this build has CUDA and CUDA sees one.
/// Returns the GPU as CUDA counts the visible ones, by the local rank (choose_gpu); empty for the
/// CPU.  Throws UsageError where "cuda" cannot be had, and where there are GPUs and choose_gpu
/// refuses, for "auto" too: a run that falls back to the CPU would only look as if it hung.
[[nodiscard]] std::optional<int> choose_device(std::string_view asked,
                                               const std::optional<NcclApi>& api,
                                               const Environment& environment);

/// Load the part of LibTorch that computes on GPUs, and make `gpu` this thread's.  Call it before
/// anything else asks LibTorch about CUDA: it looks for that part only once.
/// It is linked to nobody: loaded, it takes 250 MiB, which a run on the CPU is spared.
/// most: bytes of the GPU that tensors may take; 0 for all.  What would take more throws an
/// out-of-memory error.  CUDA's own memory and NCCL's buffers, some ten MiB a channel
/// (dist/nccl_channel.h), come on top.
/// Throws UsageError with the loader's or CUDA's own text.
void use_gpu(const NcclApi& api, int gpu, std::size_t most = 0);

/// The most bytes of the GPU that tensors have taken so far; throws as use_gpu does.
[[nodiscard]] std::size_t peak_gpu_memory(const NcclApi& api, int gpu);

/// "NVIDIA H100 80GB HBM3"; throws as use_gpu does.
[[nodiscard]] std::string gpu_name(const NcclApi& api, int gpu);

}  // namespace lrq::dist

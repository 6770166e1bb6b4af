#pragma once

#include <memory>

#include <c10/core/Device.h>

#include "dist/transport.h"

namespace lrq {

/// A device that is not the CPU, for tests of what a run does on a GPU: its tensors lie in host
/// memory of their own, autograd gives it a thread of its own as it does a GPU, and every operation
/// is carried out by the CPU on copies, once it is known that all its tensors are on the device.
/// Stricter than CUDA: a tensor of no dimensions in host memory is refused too (numbers that
/// LibTorch itself wraps are not).  LibTorch calls it "standin:0".
/// Values are those of the CPU's own operations, without its fused kernels.
[[nodiscard]] c10::Device stand_in_device();

/// A transport of host memories for tensors of the stand-in device: what the MPI transport does for
/// a GPU.  Owns: nothing of `hosts`, which must outlive it.
[[nodiscard]] std::unique_ptr<dist::Transport> make_stand_in_transport(dist::Transport& hosts);

}  // namespace lrq

# Find the LibTorch inside a PyTorch wheel by its folders, so that one way serves machines with and
# without the CUDA toolkit (the wheel's own CMake package needs the toolkit).
#   LRQ_TORCH_ROOT   the wheel's torch folder; or Torch_DIR (…/torch/share/cmake/Torch); or the
#                    virtual environment that launch/setup made.
# Makes lrq::torch (torch_cpu, c10) and, where the wheel has CUDA, lrq::c10_cuda: imported, so that an
# installed lrq-dist names them and finds them again with this same module.
set(_lrq_cache "$ENV{XDG_CACHE_HOME}")
if(NOT _lrq_cache)
  set(_lrq_cache "$ENV{HOME}/.cache")
endif()
if(NOT LRQ_TORCH_ROOT AND Torch_DIR)
  get_filename_component(LRQ_TORCH_ROOT "${Torch_DIR}/../../.." ABSOLUTE)
endif()
if(NOT LRQ_TORCH_ROOT AND EXISTS "${_lrq_cache}/lrq-dist/torch-root")
  file(STRINGS "${_lrq_cache}/lrq-dist/torch-root" LRQ_TORCH_ROOT LIMIT_COUNT 1)
endif()
set(LibTorch_FOUND TRUE)  # anything missing ends in FATAL_ERROR
if(TARGET lrq::torch)
  return()
endif()
if(NOT EXISTS "${LRQ_TORCH_ROOT}/version.py")
  message(FATAL_ERROR "no LibTorch found: LRQ_TORCH_ROOT is '${LRQ_TORCH_ROOT}', which holds no "
                      "version.py\n  fix: run launch/setup, or pass -DTorch_DIR=…/torch/share/cmake/Torch")
endif()
file(STRINGS "${LRQ_TORCH_ROOT}/version.py" _lrq_version REGEX "^__version__")
string(REGEX REPLACE ".*'([0-9][^']*)'.*" "\\1" LRQ_TORCH_VERSION "${_lrq_version}")
if(LRQ_TORCH_VERSION VERSION_LESS 2.4)
  message(FATAL_ERROR "PyTorch ${LRQ_TORCH_VERSION} in ${LRQ_TORCH_ROOT} is too old, 2.4 is the oldest\n"
                      "  fix: run launch/setup, or name a newer one with -DTorch_DIR=…")
endif()

add_library(lrq::torch INTERFACE IMPORTED GLOBAL)
target_include_directories(lrq::torch SYSTEM INTERFACE
  "${LRQ_TORCH_ROOT}/include" "${LRQ_TORCH_ROOT}/include/torch/csrc/api/include")
target_compile_definitions(lrq::torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
target_link_libraries(lrq::torch INTERFACE
  "${LRQ_TORCH_ROOT}/lib/libtorch_cpu.so" "${LRQ_TORCH_ROOT}/lib/libc10.so")
# What torch_cpu itself needs lies beside it, found by its own run path, not by the linker's.
target_link_options(lrq::torch INTERFACE "LINKER:--allow-shlib-undefined"
                    "LINKER:--disable-new-dtags")

if(EXISTS "${LRQ_TORCH_ROOT}/lib/libtorch_cuda.so")
  # Streams and the caching allocator alone, a small library: what the NCCL transport uses.  The rest,
  # libtorch_cuda.so, is loaded by a run that computes on a GPU (dist/gpu.h).
  add_library(lrq::c10_cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(lrq::c10_cuda INTERFACE lrq::torch "${LRQ_TORCH_ROOT}/lib/libc10_cuda.so")
endif()
message(STATUS "LibTorch ${LRQ_TORCH_VERSION} in ${LRQ_TORCH_ROOT}")

# Find NCCL and the CUDA runtime that go with LibTorch: beside it first, as a PyTorch wheel has them
# in its nvidia folder, so that one process loads one NCCL and one CUDA runtime; then the system.
# The CUDA toolkit gives the headers; the language CUDA is not needed.
#   LRQ_TORCH_ROOT   the wheel's torch folder (FindLibTorch)
# Makes NCCL::NCCL with the CUDA runtime, NCCL_FOUND, NCCL_LIBRARY, NCCL_WHY_NOT.
find_package(CUDAToolkit QUIET)
set(_nvidia "${LRQ_TORCH_ROOT}/../nvidia")
find_path(NCCL_INCLUDE_DIR nccl.h HINTS "${_nvidia}/nccl/include")
find_library(NCCL_LIBRARY NAMES libnccl.so.2 nccl HINTS "${_nvidia}/nccl/lib")

set(NCCL_WHY_NOT "")
if(NOT CUDAToolkit_FOUND)
  set(NCCL_WHY_NOT "no CUDA toolkit found")
elseif(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
  set(NCCL_WHY_NOT "no NCCL found beside LibTorch or in the system")
endif()

if(NOT NCCL_WHY_NOT)
  file(GLOB _nccl_cudart "${_nvidia}/cu*/lib/libcudart.so.${CUDAToolkit_VERSION_MAJOR}"
                         "${LRQ_TORCH_ROOT}/lib/libcudart.so.${CUDAToolkit_VERSION_MAJOR}")
  if(_nccl_cudart)
    list(GET _nccl_cudart 0 _nccl_cudart)
    get_filename_component(_nccl_cudart "${_nccl_cudart}" REALPATH)
  else()
    set(_nccl_cudart CUDA::cudart)
  endif()
  if(NOT TARGET NCCL::NCCL)
    add_library(NCCL::NCCL INTERFACE IMPORTED GLOBAL)
    set_target_properties(NCCL::NCCL PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR};${CUDAToolkit_INCLUDE_DIRS}"
      INTERFACE_LINK_LIBRARIES "${NCCL_LIBRARY};${_nccl_cudart}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
set(FPHSA_NAME_MISMATCHED ON)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR CUDAToolkit_FOUND
                                  REASON_FAILURE_MESSAGE "${NCCL_WHY_NOT}")
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)

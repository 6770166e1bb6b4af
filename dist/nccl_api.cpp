#include "dist/nccl_api.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {

std::optional<std::string> nccl_version(const std::optional<NcclApi>& api) {
  int code = 0;
  if (!api || api->get_version(&code) != 0) return std::nullopt;
  // Source: NCCL_VERSION in nccl.h; since 2.9 the major version counts 10000, before 1000.
  const int major_unit = code < 10000 ? 1000 : 10000;
  return concat(code / major_unit, ".", code % major_unit / 100, ".", code % 100);
}

std::optional<std::string> nccl_version() { return nccl_version(linked_nccl()); }

int cuda_device_count(const std::optional<NcclApi>& api) {
  int count = 0;
  return api && api->get_device_count(&count) == 0 ? count : 0;
}

int cuda_device_count() { return cuda_device_count(linked_nccl()); }

void check_cuda(const NcclApi& api, int code, std::string_view call, std::string_view where) {
  if (code == 0) return;
  throw TransportError(
      {.what = concat("CUDA: ", call, " returned ", code, ": ", api.cuda_error_text(code)),
       .where = std::string(where),
       .fix = "look at nvidia-smi and the kernel's log for the GPU; --transport mpi goes without "
              "NCCL"});
}

void check_nccl(const NcclApi& api, int code, std::string_view call, void* comm,
                std::string_view where) {
  if (code == 0 || code == kNcclInProgress) return;
  const char* last = comm == nullptr ? nullptr : api.last_error(comm);
  const bool more = last != nullptr && *last != '\0';
  throw TransportError(
      {.what = concat("NCCL ", nccl_version(api).value_or("of unknown version"), ": ", call,
                      " returned ", code, ": ", api.error_text(code), more ? ": " : "",
                      more ? last : ""),
       .where = std::string(where),
       .fix = "read the other ranks' logs; NCCL_DEBUG=INFO makes NCCL tell more; --transport mpi "
              "goes without it"});
}

}  // namespace lrq::dist
